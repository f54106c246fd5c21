//! `spin:redis` as Spin 4.1 behaves: one connection per `open`, flattened replies, Spin's errors.

use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Cmd, RedisError, Value};
use wasmtime::component::{Accessor, HasSelf, Resource};

use crate::component::State;
use crate::component::redis_interface::{
    Error, Host, HostConnection, HostConnectionWithStore, Payload, RedisParameter, RedisResult,
};

/// The resource behind a component's connection.
pub struct Connection(MultiplexedConnection);

impl Host for State {}
impl HostConnection for State {
    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}

type Store<T> = Accessor<T, HasSelf<State>>;

/// The connection, or Spin's error for a missing one.
fn get<T: Send>(store: &Store<T>, connection: &Resource<Connection>) -> Result<MultiplexedConnection, Error> {
    store.with(|mut access| {
        access
            .get()
            .table
            .get(connection)
            .map(|connection| connection.0.clone())
            .map_err(|error| Error::Other(error.to_string()))
    })
}

fn failed(error: RedisError) -> Error {
    Error::Other(error.to_string())
}

impl<T: Send> HostConnectionWithStore<T> for HasSelf<State> {
    async fn open(store: &Store<T>, address: String) -> Result<Resource<Connection>, Error> {
        let client = redis::Client::open(address).map_err(|_| Error::InvalidAddress)?;
        let connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
        store.with(|mut access| {
            access.get().table.push(Connection(connection)).map_err(|_| Error::TooManyConnections)
        })
    }

    async fn publish(
        store: &Store<T>,
        this: Resource<Connection>,
        channel: String,
        payload: Payload,
    ) -> Result<(), Error> {
        get(store, &this)?.publish(channel, payload).await.map_err(failed)
    }

    async fn get(
        store: &Store<T>,
        this: Resource<Connection>,
        key: String,
    ) -> Result<Option<Payload>, Error> {
        get(store, &this)?.get(key).await.map_err(failed)
    }

    async fn set(
        store: &Store<T>,
        this: Resource<Connection>,
        key: String,
        value: Payload,
    ) -> Result<(), Error> {
        get(store, &this)?.set(key, value).await.map_err(failed)
    }

    async fn incr(store: &Store<T>, this: Resource<Connection>, key: String) -> Result<i64, Error> {
        get(store, &this)?.incr(key, 1).await.map_err(failed)
    }

    async fn del(store: &Store<T>, this: Resource<Connection>, keys: Vec<String>) -> Result<u32, Error> {
        get(store, &this)?.del(keys).await.map_err(failed)
    }

    async fn sadd(
        store: &Store<T>,
        this: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, Error> {
        get(store, &this)?.sadd(key, values).await.map_err(failed)
    }

    async fn smembers(
        store: &Store<T>,
        this: Resource<Connection>,
        key: String,
    ) -> Result<Vec<String>, Error> {
        get(store, &this)?.smembers(key).await.map_err(failed)
    }

    async fn srem(
        store: &Store<T>,
        this: Resource<Connection>,
        key: String,
        values: Vec<String>,
    ) -> Result<u32, Error> {
        get(store, &this)?.srem(key, values).await.map_err(failed)
    }

    async fn execute(
        store: &Store<T>,
        this: Resource<Connection>,
        command: String,
        arguments: Vec<RedisParameter>,
    ) -> Result<Vec<RedisResult>, Error> {
        let mut connection = get(store, &this)?;
        let mut cmd = Cmd::new();
        cmd.arg(command);
        for argument in arguments {
            match argument {
                RedisParameter::Int64(number) => cmd.arg(number),
                RedisParameter::Binary(bytes) => cmd.arg(bytes),
            };
        }
        let value: Value = cmd.query_async(&mut connection).await.map_err(failed)?;
        let mut results = Vec::new();
        flatten(value, &mut results)?;
        Ok(results)
    }
}

/// Flattens nested arrays into one list.
fn flatten(value: Value, results: &mut Vec<RedisResult>) -> Result<(), Error> {
    match value {
        Value::Nil => results.push(RedisResult::Nil),
        Value::Int(number) => results.push(RedisResult::Int64(number)),
        Value::BulkString(bytes) => results.push(RedisResult::Binary(bytes)),
        Value::SimpleString(text) => results.push(RedisResult::Status(text)),
        Value::Okay => results.push(RedisResult::Status("OK".to_owned())),
        Value::Array(values) => values.into_iter().try_for_each(|value| flatten(value, results))?,
        other => return Err(Error::Other(format!("a reply of an unknown kind: {other:?}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_arrays_come_flat_and_empty_ones_vanish() {
        let nested = Value::Array(vec![
            Value::Int(1),
            Value::Array(vec![]),
            Value::Array(vec![Value::Nil, Value::Array(vec![Value::SimpleString("x".to_owned())])]),
        ]);
        let mut results = Vec::new();
        flatten(nested, &mut results).unwrap();
        assert!(
            matches!(&results[..], [RedisResult::Int64(1), RedisResult::Nil, RedisResult::Status(text)] if text == "x")
        );
    }
}
