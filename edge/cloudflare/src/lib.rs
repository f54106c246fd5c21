//! The edge as a Cloudflare Worker: I/O for the pipeline in `optimist-edge-core`, and no policy.
//!
//! A request takes one request to an object beside Redis ([`object`]), which runs the pipeline; the Worker ([`outer`]) forwards
//! what the object hands over.

mod connection;
mod forward;
mod glue;
mod head;
mod host;
mod object;
mod outer;
mod socket;

use optimist_edge_core::host::Response as Answer;
use worker::web_sys::Response;

/// Converts the pipeline's answer into a response; with a forward, if there is one.
fn respond(answer: Answer, forward: Option<&str>) -> Response {
    glue::respond(answer.status, &lines(&answer), &answer.body, forward)
}

/// The same, for an answer that is waited for.
fn give(later: &glue::Later, answer: Answer, forward: Option<&str>) {
    later.give(answer.status, &lines(&answer), &answer.body, forward);
}

/// Names and values of headers in turn. The pipeline writes visible ASCII.
fn lines(answer: &Answer) -> String {
    let mut text = String::with_capacity(1024);
    for (name, value) in &answer.headers {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(name);
        text.push('\n');
        text.push_str(value);
    }
    text
}
