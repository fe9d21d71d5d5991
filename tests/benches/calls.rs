//! Tells the benchmarks what each kind's row says of its calls, as JSON: for each kind the paths of its lists, of the bodies
//! that a stamp of the list makes needless while nothing changed, and of those that no stamp covers, with the reason.

use lakehold_worker::source::databricks::kinds::{Content, List, Row, Stamp, rows};
use serde_json::{Value, json};

#[expect(clippy::print_stdout, reason = "the binary's own terminal")]
fn main() {
    println!("{}", Value::Array(rows().map(of).collect()));
}

fn of(row: &Row) -> Value {
    let lists: Vec<_> = match row.list {
        List::Calls(calls) => calls.iter().map(|call| call.path).collect(),
        List::Tree => vec!["/api/2.0/workspace/list"],
        List::Carried => Vec::new(),
    };
    let (mut covered, mut uncovered) = (Vec::new(), Vec::new());
    let why = match row.stamp {
        Stamp::Trusted(_) => "the stamp of its list does not cover it",
        Stamp::None { why } => why,
    };
    let trusted = matches!(row.stamp, Stamp::Trusted(_));
    let mut body =
        |path, covered_by_stamp| if covered_by_stamp { &mut covered } else { &mut uncovered }.push(path);
    if let Some(get) = row.get {
        body(get.path, trusted);
    }
    match row.content {
        Content::None => {}
        Content::Notebook | Content::File => body("/api/2.0/workspace/export", trusted),
        Content::Encoded { call, .. } => body(call.path, trusted),
        // Fetched every time: see the row's type.
        Content::Answer { call, .. } => body(call.path, false),
    }
    json!({"kind": row.name, "lists": lists, "covered": covered, "uncovered": uncovered, "why": why})
}
