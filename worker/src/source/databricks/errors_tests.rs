//! Every shape of error body, and what it comes to.

use super::super::families::{CLUSTERS, JOBS, WORKSPACE_EXPORT};
use super::*;

fn answered(path: &str, status: u16, body: &str) -> Fault {
    let request = Request::get(&JOBS, path);
    fault(&request, &Answer { status, request_id: Some("r-1"), body: body.as_bytes() }, &[])
}

#[test]
fn every_shape_is_read() {
    let shapes: [(&str, Option<&str>, &str); 10] = [
        (r#"{"error_code":"PERMISSION_DENIED","message":"no"}"#, Some("PERMISSION_DENIED"), "no"),
        (r#"{"error_code":403,"message":"Invalid access token."}"#, Some("403"), "Invalid access token."),
        (r#"{"error":"old style"}"#, None, "old style"),
        (r#"{"schemas":["urn:x"],"detail":"gone","status":"404"}"#, Some("SCIM_404"), "gone"),
        (
            r#"{"schemas":["urn:x"],"detail":"null","status":"409","scimType":"uniqueness"}"#,
            Some("SCIM_409"),
            "uniqueness",
        ),
        ("MALFORMED_REQUEST: not like that", Some("MALFORMED_REQUEST"), "not like that"),
        ("<html><pre> It broke </pre></html>", None, "It broke"),
        ("<HTML><head><TITLE>502 Bad</TITLE></head></HTML>", None, "502 Bad"),
        (r#"{"error_code":"","message":"already exists."}"#, None, "already exists."),
        ("", None, ""),
    ];
    for (body, code, message) in shapes {
        let said = read(&Answer { status: 404, request_id: None, body: body.as_bytes() });
        assert_eq!((said.code.as_deref(), said.message.as_str()), (code, message), "{body}");
    }
}

#[test]
fn a_code_beats_the_status() {
    let cases = [
        (500, "RESOURCE_DOES_NOT_EXIST", Class::Absent, "http.absent"),
        (400, "TABLE_DOES_NOT_EXIST", Class::Absent, "http.absent"),
        (404, "METASTORE_DOES_NOT_EXIST", Class::Unsupported, "http.not-enabled"),
        (400, "FEATURE_DISABLED", Class::Unsupported, "http.not-enabled"),
        (404, "ENDPOINT_NOT_FOUND", Class::Unsupported, "http.unsupported"),
        (400, "RESOURCE_ALREADY_EXISTS", Class::Conflict, "http.exists"),
        (400, "RESOURCE_CONFLICT", Class::Conflict, "http.conflict"),
        (400, "REQUEST_LIMIT_EXCEEDED", Class::Throttled, "http.throttled"),
        (403, "QUOTA_EXCEEDED", Class::Unsupported, "http.quota"),
        (400, "MAX_NOTEBOOK_SIZE_EXCEEDED", Class::Unsupported, "http.too-large"),
        (403, "UNAUTHENTICATED", Class::Denied, "http.unauthenticated"),
        (400, "INVALID_PARAMETER_VALUE", Class::Bug, "http.refused"),
        (404, "SOMETHING_NEW", Class::Absent, "http.absent"),
    ];
    for (status, code, class, name) in cases {
        let fault = answered("/api/x", status, &format!(r#"{{"error_code":"{code}","message":"m"}}"#));
        assert_eq!((fault.class, fault.code), (class, name), "{status} {code}");
        let http = fault.http.unwrap();
        assert_eq!(
            (http.status, http.code.as_deref(), http.request_id.as_deref()),
            (status, Some(code), Some("r-1"))
        );
    }
}

#[test]
fn the_status_decides_where_no_code_does() {
    let cases = [
        (400, Class::Bug),
        (401, Class::Denied),
        (403, Class::Denied),
        (404, Class::Absent),
        (409, Class::Conflict),
        (413, Class::Unsupported),
        (429, Class::Throttled),
        (500, Class::Unavailable),
        (501, Class::Unsupported),
        (503, Class::Unavailable),
        (504, Class::Unavailable),
    ];
    for (status, class) in cases {
        assert_eq!(answered("/api/x", status, "").class, class, "{status}");
    }
    assert_eq!(answered("/api/x", 502, "").detail, "502: Bad Gateway");
}

#[test]
fn missing_clusters_and_jobs_are_absent_although_called_invalid() {
    let body = |text: &str| format!(r#"{{"error_code":"INVALID_PARAMETER_VALUE","message":"{text}"}}"#);
    let absent = |path: &str, text: &str| answered(path, 400, &body(text)).class == Class::Absent;
    assert!(absent("/api/2.1/jobs/get", "Job 1 does not exist."));
    assert!(absent("/api/2.0/clusters/get", "Cluster 1-2-a does not exist"));
    assert!(!absent("/api/2.1/jobs/list", "Job 1 does not exist."), "only where it is known");
    assert!(!absent("/api/2.1/jobs/get", "Policy does not exist"), "only what was asked for");
}

#[test]
fn details_say_what_codes_do_not() {
    let body = r#"{"error_code":"BAD_REQUEST","message":"m","details":[
        {"@type":"x/ErrorInfo","reason":"MAX_READ_SIZE_EXCEEDED"},
        {"@type":"x/RequestInfo","request_id":"r-2"},{"@type":"x/RetryInfo","retry_delay":"1.5s"}]}"#;
    let request = Request::get(&WORKSPACE_EXPORT, "/api/2.0/workspace/export");
    let fault = fault(&request, &Answer { status: 400, request_id: None, body: body.as_bytes() }, &[]);
    assert_eq!((fault.class, fault.code), (Class::Unsupported, "http.too-large"));
    assert_eq!(fault.http.unwrap().request_id.as_deref(), Some("r-2"));
    assert_eq!(fault.after, Some(Duration::from_millis(1500)));
}

#[test]
fn passing_messages_may_be_tried_again() {
    let request = Request::get(&CLUSTERS, "/api/2.0/clusters/list");
    let body = br#"{"error_code":"INVALID_STATE","message":"ClusterNotReadyException: wait"}"#;
    assert!(fault(&request, &Answer { status: 400, request_id: None, body }, &[]).class.may_retry());
}

#[test]
fn messages_hold_no_secret_no_control_and_no_novel() {
    let secrets = [Secret::new("s3cr3t-value")];
    let jwt = format!("eyJ{}", "a".repeat(60));
    let pat = format!("'dapi{}'", "0".repeat(32));
    let shown = clean(&format!("token s3cr3t-value {jwt} {pat} \u{1b}[2J\u{202e}x\n"), &secrets);
    assert_eq!(shown, "token [secret] [secret] [secret] \\u{1b}[2J\\u{202e}x\\n");
    assert_eq!(clean(&"x".repeat(5_000), &[]).chars().count(), LONGEST + 1);
    let echo = r#"{"error_code":"s3cr3t-value","message":"s3cr3t-value"}"#;
    let request = Request::get(&JOBS, "/api/x");
    let fault = fault(
        &request,
        &Answer { status: 400, request_id: Some("s3cr3t-value"), body: echo.as_bytes() },
        &secrets,
    );
    assert!(!format!("{fault:?}").contains("s3cr3t"), "{fault:?}");
}
