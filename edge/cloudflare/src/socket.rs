//! The platform's socket, used with as few steps as it allows: one reader and one writer for its whole life, and reads
//! into one large buffer that each read hands back. (The `worker` crate's socket takes a new reader for every read, and
//! gets 4 KiB by each.)

use bytes::BytesMut;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use worker::js_sys::{ArrayBuffer, Object, Promise, Reflect, Uint8Array};
use worker::wasm_bindgen_futures::JsFuture;

use crate::glue;

/// The most bytes that one read returns: several replies of the largest kind.
const BUFFER: u32 = 64 * 1024;

#[wasm_bindgen]
extern "C" {
    type Socket;
    #[wasm_bindgen(method, getter)]
    fn readable(this: &Socket) -> Readable;
    #[wasm_bindgen(method, getter)]
    fn writable(this: &Socket) -> Writable;

    type Readable;
    #[wasm_bindgen(method, catch, js_name = getReader)]
    fn get_reader(this: &Readable, options: &Object) -> Result<ByobReader, JsValue>;

    type ByobReader;
    #[wasm_bindgen(method)]
    fn read(this: &ByobReader, view: &Uint8Array) -> Promise;

    type ReadResult;
    #[wasm_bindgen(method, getter)]
    fn done(this: &ReadResult) -> bool;
    #[wasm_bindgen(method, getter)]
    fn value(this: &ReadResult) -> Uint8Array;

    type Writable;
    #[wasm_bindgen(method, catch, js_name = getWriter)]
    fn get_writer(this: &Writable) -> Result<JsValue, JsValue>;
}

#[wasm_bindgen(module = "cloudflare:sockets")]
extern "C" {
    #[wasm_bindgen(catch, js_name = connect)]
    fn connect_raw(address: &Object, options: &Object) -> Result<Socket, JsValue>;
}

pub struct Reader {
    raw: ByobReader,
    buffer: ArrayBuffer,
    /// The platform closes the socket when it is dropped.
    _socket: Socket,
}

pub struct Writer(JsValue);

/// Starts to connect; the first read reports a failure.
pub fn connect(host: &str, port: u16, tls: bool) -> Result<(Reader, Writer), String> {
    let open = || {
        let address = Object::new();
        Reflect::set(&address, &"hostname".into(), &host.into())?;
        Reflect::set(&address, &"port".into(), &port.into())?;
        let options = Object::new();
        Reflect::set(&options, &"secureTransport".into(), &(if tls { "on" } else { "off" }).into())?;
        let socket = connect_raw(&address, &options)?;
        let mode = Object::new();
        Reflect::set(&mode, &"mode".into(), &"byob".into())?;
        let raw = socket.readable().get_reader(&mode)?;
        let writer = Writer(socket.writable().get_writer()?);
        Ok((Reader { raw, buffer: ArrayBuffer::new(BUFFER), _socket: socket }, writer))
    };
    open().map_err(|error: JsValue| why(&error))
}

impl Reader {
    /// Waits for data and appends it; `false` at the end of the stream.
    pub async fn read(&mut self, into: &mut BytesMut) -> Result<bool, String> {
        let read = JsFuture::from(self.raw.read(&Uint8Array::new(&self.buffer)));
        let result = read.await.map_err(|error| why(&error))?;
        let result: ReadResult = wasm_bindgen::JsCast::unchecked_into(result);
        if result.done() {
            return Ok(false);
        }
        let bytes = result.value();
        let start = into.len();
        into.resize(start + bytes.length() as usize, 0);
        bytes.copy_to(&mut into[start..]);
        // The read took ownership of the buffer and returns it with the bytes.
        self.buffer = bytes.buffer();
        Ok(true)
    }
}

impl Writer {
    /// Queues bytes. They are sent in the order of the calls.
    pub fn write(&self, bytes: &[u8]) {
        glue::write(&self.0, bytes);
    }
}

fn why(error: &JsValue) -> String {
    let text =
        wasm_bindgen::JsCast::dyn_ref::<worker::js_sys::Error>(error).map(|error| error.message().into());
    text.unwrap_or_else(|| format!("{error:?}"))
}
