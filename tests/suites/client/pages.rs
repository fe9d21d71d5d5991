//! Listings in pages, in every family of paging.

use futures::TryStreamExt as _;
use lakehold_proto::fault::{Class, Result};
use lakehold_worker::source::databricks::families::{SCIM, UNITY_CATALOG};
use lakehold_worker::source::databricks::{Paging, Request};

use super::scripted::{Scripted, json};
use super::{Scene, client, meter, settings};

const TOKEN: Paging = Paging::Token { request: "page_token", size: Some(("max_results", "0")) };

/// The items and the query strings that a listing of `answers` comes to.
async fn list(answers: &[&str], paging: Paging, items: &str) -> (Result<Vec<String>>, Vec<String>) {
    let server = Scripted::start(answers.iter().map(|body| json(body)).collect()).await;
    let request = Request::get(&UNITY_CATALOG, "/api/list").query("kept", "yes");
    let pages = client(settings(&server.url)).pages(request, &paging, items, &meter());
    let listed = pages.try_collect::<Vec<_>>().await;
    let items = listed.map(|pages| pages.into_iter().flatten().map(|item| item.get().to_owned()).collect());
    let asked = server
        .lines()
        .iter()
        .map(|line| line.split(['?', ' ']).nth(2).unwrap_or_default().to_owned())
        .collect();
    (items, asked)
}

#[tokio::test]
async fn an_empty_page_with_a_token_is_not_the_end() {
    let answers = [
        r#"{"next_page_token":"a b"}"#,
        r#"{"x":[1],"next_page_token":"c"}"#,
        r#"{"x":[2],"next_page_token":""}"#,
    ];
    let (items, asked) = list(&answers, TOKEN, "x").await;
    assert_eq!(items.unwrap(), ["1", "2"]);
    assert_eq!(
        asked,
        [
            "kept=yes&max_results=0",
            "kept=yes&max_results=0&page_token=a+b",
            "kept=yes&max_results=0&page_token=c"
        ]
    );
}

#[tokio::test]
async fn repos_send_their_token_back_under_its_own_name() {
    let paging = Paging::Token { request: "next_page_token", size: None };
    let (items, asked) = list(&[r#"{"x":[1],"next_page_token":"7"}"#, "{}"], paging, "x").await;
    assert_eq!(items.unwrap(), ["1"]);
    assert_eq!(asked[1], "kept=yes&next_page_token=7");
}

#[tokio::test]
async fn a_listing_that_goes_in_circles_is_an_error() {
    let answers = [
        r#"{"x":[1],"next_page_token":"a"}"#,
        r#"{"x":[2],"next_page_token":"b"}"#,
        r#"{"next_page_token":"a"}"#,
    ];
    let (items, asked) = list(&answers, TOKEN, "x").await;
    let fault = items.unwrap_err();
    assert_eq!((fault.class, fault.code), (Class::Unavailable, "http.page-loop"));
    assert_eq!(asked.len(), 3);
}

const SCIM_PAGES: Paging = Paging::Scim { count: 100 };

/// What a SCIM server answers that shows these ids.
fn resources(ids: &[u32]) -> String {
    let items: Vec<_> = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
    format!(r#"{{"Resources":[{}],"totalResults":99}}"#, items.join(","))
}

async fn scim(pages: &[&[u32]]) -> (Result<usize>, Vec<String>) {
    let answers: Vec<_> = pages.iter().map(|ids| resources(ids)).collect();
    let answers: Vec<_> = answers.iter().map(String::as_str).collect();
    let (items, asked) = list(&answers, SCIM_PAGES, "Resources").await;
    (items.map(|items| items.len()), asked)
}

#[tokio::test]
async fn scim_advances_by_what_it_received() {
    let (items, asked) = scim(&[&[1, 2, 3], &[3, 4], &[4]]).await;
    assert_eq!(items.unwrap(), 4);
    assert_eq!(
        asked,
        [
            "kept=yes&startIndex=1&count=100",
            "kept=yes&startIndex=3&count=100",
            "kept=yes&startIndex=4&count=100"
        ]
    );
    assert_eq!(scim(&[&[]]).await.0.unwrap(), 0);
}

#[tokio::test]
async fn scim_begins_again_where_pages_do_not_join() {
    // 1 was deleted between the first two pages, so 4 slipped onto the first.
    let (items, asked) = scim(&[&[1, 2, 3], &[4, 5], &[2, 3, 4], &[4, 5], &[5]]).await;
    assert_eq!(items.unwrap(), 3 + 2 + 3 + 1, "the caller drops doubles");
    assert_eq!(asked[2], "kept=yes&startIndex=1&count=100");
    // The last one was deleted: a page is empty where one item was sure to be.
    let (items, asked) = scim(&[&[1, 2], &[], &[1], &[1]]).await;
    assert_eq!((items.unwrap(), asked.len()), (3, 4));
    let (items, asked) = scim(&[&[1, 2], &[7], &[1, 2], &[7], &[1, 2], &[7]]).await;
    let fault = items.unwrap_err();
    assert_eq!((fault.class, fault.code, asked.len()), (Class::Unavailable, "http.shifting", 6));
}

#[tokio::test]
async fn a_scim_server_that_knows_no_positions_is_read_once() {
    let (items, asked) = scim(&[&[1, 2, 3]]).await;
    assert_eq!((items.unwrap(), asked.len()), (3, 2));
}

#[tokio::test]
async fn legacy_pages_are_numbered() {
    let (items, asked) =
        list(&[r#"{"results":[1,2]}"#, r#"{"results":[]}"#], Paging::Page { size: 2 }, "results").await;
    assert_eq!(items.unwrap().len(), 2);
    assert_eq!(asked, ["kept=yes&page=1&page_size=2", "kept=yes&page=2&page_size=2"]);
}

#[tokio::test]
async fn one_page_is_one_call_and_a_strange_answer_no_empty_list() {
    let (items, asked) = list(&[r#"{"x":[1],"next_page_token":"ignored"}"#], Paging::None, "x").await;
    assert_eq!((items.unwrap().len(), asked.len()), (1, 1));
    let (items, _) = list(&[r#"{"x":{"not":"a list"}}"#], Paging::None, "x").await;
    assert_eq!(items.unwrap_err().code, "http.not-a-list");
}

#[tokio::test]
async fn the_workspace_lists_all_its_people() {
    let scene = Scene::new().await;
    let request = Request::get(&SCIM, "/api/2.0/preview/scim/v2/Users");
    let count =
        |count| scene.client.pages(request.clone(), &Paging::Scim { count }, "Resources", &scene.meter);
    let small: usize =
        count(3).map_ok(|page| page.len()).try_fold(0, |a, b| async move { Ok(a + b) }).await.unwrap();
    let large: usize =
        count(1_000).map_ok(|page| page.len()).try_fold(0, |a, b| async move { Ok(a + b) }).await.unwrap();
    assert!(small > 3, "{small} people");
    assert_eq!(small, large);
}

#[tokio::test]
async fn a_failure_in_the_middle_ends_the_listing_with_it() {
    let scene = Scene::new().await;
    scene.fault(serde_json::json!({"path": "*/Users", "nth": 2,
        "effect": {"type": "error", "status": 403, "error_code": "PERMISSION_DENIED"}}));
    let request = Request::get(&SCIM, "/api/2.0/preview/scim/v2/Users");
    let pages = scene.client.pages(request, &Paging::Scim { count: 2 }, "Resources", &scene.meter);
    let (seen, fault) = collect(pages).await;
    assert_eq!((seen, fault.unwrap().class), (1, Class::Denied));
}

async fn collect<T>(
    mut pages: futures::stream::BoxStream<'static, Result<T>>,
) -> (usize, Option<lakehold_proto::fault::Fault>) {
    let mut seen = 0;
    loop {
        match pages.try_next().await {
            Ok(Some(_)) => seen += 1,
            Ok(None) => return (seen, None),
            Err(fault) => return (seen, Some(fault)),
        }
    }
}
