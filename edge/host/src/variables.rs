//! `spin:variables`, read from the command line and the environment.

use wasmtime::component::{Accessor, HasSelf};

use crate::component::State;
use crate::component::variables_interface::{Error, Host, HostWithStore};

impl Host for State {}

impl<T: Send> HostWithStore<T> for HasSelf<State> {
    async fn get(store: &Accessor<T, HasSelf<State>>, name: String) -> Result<String, Error> {
        let value = store.with(|mut access| access.get().variables.get(&name).cloned());
        value.ok_or_else(|| Error::Undefined(format!("no value for variable {name:?}")))
    }
}
