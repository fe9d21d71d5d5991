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

#[tokio::test]
async fn scim_advances_by_what_it_received() {
    let answers = [
        r#"{"Resources":[1,2,3],"totalResults":99}"#,
        r#"{"Resources":[4],"totalResults":99}"#,
        r#"{"totalResults":4}"#,
    ];
    let (items, asked) = list(&answers, Paging::Scim { count: 100 }, "Resources").await;
    assert_eq!(items.unwrap().len(), 4);
    assert_eq!(
        asked,
        [
            "kept=yes&startIndex=1&count=100",
            "kept=yes&startIndex=4&count=100",
            "kept=yes&startIndex=5&count=100"
        ]
    );
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
