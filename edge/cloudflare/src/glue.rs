//! The small JavaScript module beside this one, as Rust calls it. `glue.js` says what each function does.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::Promise;
use worker::web_sys::{Request, Response};

#[wasm_bindgen(module = "/src/glue.js")]
extern "C" {
    pub fn who(request: &Request, address: Option<&str>) -> String;

    pub fn serve(
        request: &Request,
        env: &Env,
        name: &str,
        location: Option<&str>,
        id: &str,
        who: &str,
        deadline_ms: u32,
        body_limit: Option<usize>,
        body_deadline_ms: u32,
    ) -> Promise;

    pub fn tell(
        objects: &JsValue,
        name: &str,
        location: Option<&str>,
        replies: usize,
        deadline_ms: u32,
        commands: &[u8],
    ) -> Promise;

    pub fn asked(request: &Request) -> Option<String>;

    pub fn handed(response: &Response) -> Option<String>;

    pub fn kept(response: &Response) -> Response;

    pub fn respond(status: u16, head: &str, body: &[u8], forward: Option<&str>) -> Response;

    pub type Later;
    #[wasm_bindgen(constructor)]
    pub fn new() -> Later;
    #[wasm_bindgen(method, getter)]
    pub fn promise(this: &Later) -> Promise;
    #[wasm_bindgen(method)]
    pub fn give(this: &Later, status: u16, head: &str, body: &[u8], forward: Option<&str>);

    pub fn write(writer: &JsValue, bytes: &[u8]);
}
