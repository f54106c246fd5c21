//! Loads the component once, instantiates it as needed, and reuses instances as Spin does.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use tokio::time::Sleep;
use wasmtime::component::{Component, GuestTaskId, HasSelf, Linker, ResourceTable};
use wasmtime::{Cache, CacheConfig, Config, Engine, Store, StoreContextMut};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;
use wasmtime_wasi_http::handler::{
    ErrorCode, HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, ViewFn, WorkerExpiration,
    WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::p3::bindings::ServicePre;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode as P3ErrorCode;
use wasmtime_wasi_http::p3::{WasiHttpCtxView, WasiHttpView};

use crate::outbound::{Client, Outbound};

mod bindings {
    //! Generated from `wit/`.
    wasmtime::component::bindgen!({
        path: "wit",
        world: "spin",
        with: { "spin:redis/redis.connection": crate::redis::Connection },
        require_store_data_send: true,
    });
}
pub use bindings::spin::redis::redis as redis_interface;
pub use bindings::spin::variables::variables as variables_interface;

/// Spin's defaults: requests per instance in its life, concurrent requests, and idle time.
const REQUESTS_PER_INSTANCE: usize = 128;
const REQUESTS_AT_ONCE: usize = 16;
const IDLE: Duration = Duration::from_secs(1);
/// Longer than any deadline of the edge: a request that takes this long is stuck.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// As good as none.
const STREAM_DEADLINE: Duration = Duration::from_secs(30 * 24 * 3600);

pub type Handler = ProxyHandler<Loaded>;

/// The component, ready to be instantiated.
pub struct Loaded {
    engine: Engine,
    component: ServicePre<State>,
    variables: Arc<HashMap<String, String>>,
    client: Client,
}

/// The state of one instance.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    pub table: ResourceTable,
    pub variables: Arc<HashMap<String, String>>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

/// Loads the component from `path`; `compiled` is a folder in which its machine code may be found, and is kept.
pub fn load(
    path: &Path,
    compiled: Option<&Path>,
    variables: HashMap<String, String>,
    client: Client,
) -> anyhow::Result<Handler> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    if let Some(folder) = compiled {
        let mut cache = CacheConfig::new();
        cache.with_directory(std::path::absolute(folder)?);
        config.cache(Some(Cache::new(cache).map_err(|error| anyhow!("{error:?}"))?));
    }
    let engine = Engine::new(&config).map_err(|error| anyhow!("{error:?}"))?;
    let link = || -> wasmtime::Result<ServicePre<State>> {
        let component = Component::from_file(&engine, path)?;
        let mut linker: Linker<State> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        redis_interface::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        variables_interface::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state)?;
        ServicePre::new(linker.instantiate_pre(&component)?)
    };
    let component = link().map_err(|error| anyhow!("cannot load {}: {error:?}", path.display()))?;
    Ok(ProxyHandler::new(Loaded { engine, component, variables: Arc::new(variables), client }))
}

/// Handles a request in an instance.
pub async fn handle(
    handler: &Handler,
    request: Request<Incoming>,
) -> anyhow::Result<Response<UnsyncBoxBody<bytes::Bytes, wasmtime::Error>>> {
    let request = request.map(|body| {
        let broken = |error: hyper::Error| ErrorCode::P3(P3ErrorCode::InternalError(Some(error.to_string())));
        body.map_err(broken).boxed_unsync()
    });
    handler.handle((), request).await.map_err(|error| anyhow!("{error:?}"))
}

impl HandlerState for Loaded {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Worker>> {
        let state = State {
            wasi: WasiCtx::builder().inherit_stdout().inherit_stderr().build(),
            http: WasiHttpCtx::new(),
            outbound: Outbound { client: self.client.clone() },
            table: ResourceTable::new(),
            variables: self.variables.clone(),
        };
        let mut store = Store::new(&self.engine, state);
        let proxy = ProxyPre::P3(self.component.clone()).instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: ViewFn::P3(WasiHttpView::http),
            expiration: Expiration { alarm: Box::pin(tokio::time::sleep(IDLE)) },
            state: Worker,
        })
    }
}

/// Decides when an instance ends.
pub struct Expiration {
    alarm: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let allowed = match status {
            WorkerStatus::Idle => IDLE,
            WorkerStatus::Requests => REQUEST_DEADLINE,
            // Answers that stream last as long as their clients.
            WorkerStatus::PostReturn => STREAM_DEADLINE,
        };
        let deadline = tokio::time::Instant::from_std(start + allowed);
        if self.alarm.deadline() != deadline {
            self.alarm.as_mut().reset(deadline);
        }
        self.alarm.as_mut().poll(cx)
    }
}

/// Decides which requests an instance accepts.
pub struct Worker;

impl WorkerState for Worker {
    type StoreData = State;
    type RequestId = ();

    fn should_accept_request(&self, at_once: usize, in_all: usize) -> ShouldAccept {
        if in_all >= REQUESTS_PER_INSTANCE {
            ShouldAccept::Never
        } else if at_once >= REQUESTS_AT_ONCE {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(tokio::time::sleep(REQUEST_DEADLINE))
    }

    fn drop(&self, _: Store<State>, result: Result<(), wasmtime::Error>) {
        if let Err(error) = result {
            eprintln!("an instance failed: {error:?}");
        }
    }
}
