//! Writing points and payloads.
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;

use super::Names;
use crate::engine::Collection;
use crate::query::PayloadEdit;
use crate::serve::answer::Answer;
use crate::serve::doors::{self, Doors};
use crate::serve::error_map::ApiError;
use crate::serve::json::{Body, NOT_SUPPORTED, parse};
use crate::serve::params::{Params, WriteParams};
use crate::serve::wire::payload::{DeletePayloadBody, SetPayloadBody};
use crate::serve::wire::points::{OperationsBody, UpsertBody, Write};
use crate::serve::wire::records::UpdateResult;
use crate::serve::wire::selection::SelectorBody;
use crate::types::CollectionConfig;

type Reply = Result<Answer<UpdateResult>, ApiError>;

/// Headers that promise what we do not keep yet: ignoring them would let a client believe it.
const PROMISES: [&str; 2] = ["if-match", "idempotency-key"];

/// What all writes begin with.
struct Begun {
    collection: Arc<Collection>,
    params: WriteParams,
}

fn begin(doors: &Doors, name: &str, params: &Params, headers: &HeaderMap) -> Result<Begun, ApiError> {
    if let Some(header) = PROMISES.iter().find(|header| headers.contains_key(**header)) {
        return Err(ApiError::unsupported(header, format!("the header {NOT_SUPPORTED}")));
    }
    let params = params.write(&doors.limits)?;
    Ok(Begun { collection: doors.engine.collection(name)?, params })
}

impl Begun {
    async fn finish(
        self,
        body: Body,
        build: impl FnOnce(&[u8], &CollectionConfig) -> Result<Write, ApiError> + Send + 'static,
    ) -> Reply {
        let collection = self.collection.clone();
        let write = body.on_bytes(move |bytes| build(bytes, &collection.config())).await?;
        self.carry_out(write).await.map(Answer::new)
    }

    async fn carry_out(&self, write: Write) -> Result<UpdateResult, ApiError> {
        let lsn = doors::write(&self.collection, write, self.params.wait, self.params.timeout).await?;
        Ok(UpdateResult::new(lsn, self.params.wait))
    }
}

/// `PUT /collections/{c}/points`.
pub async fn upsert(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    begun.finish(body, |bytes, config| parse::<UpsertBody>(bytes)?.build(config, "").map(Write::Batch)).await
}

/// `POST /collections/{c}/points/delete`.
pub async fn delete(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    begun
        .finish(body, |bytes, config| Ok(Write::delete(parse::<SelectorBody>(bytes)?.selector("")?, config)))
        .await
}

/// `POST /collections/{c}/points/payload`.
pub async fn set_payload(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    begun.finish(body, |bytes, _| parse::<SetPayloadBody>(bytes)?.set("")).await
}

/// `PUT /collections/{c}/points/payload`.
pub async fn overwrite_payload(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    begun.finish(body, |bytes, _| parse::<SetPayloadBody>(bytes)?.overwrite("")).await
}

/// `POST /collections/{c}/points/payload/delete`.
pub async fn delete_payload(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    begun.finish(body, |bytes, _| parse::<DeletePayloadBody>(bytes)?.delete("")).await
}

/// `POST /collections/{c}/points/payload/clear`.
pub async fn clear_payload(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let begun = begin(&doors, &name, &params, &headers)?;
    let build = |bytes: &[u8], _: &CollectionConfig| {
        Ok(Write::Edit(parse::<SelectorBody>(bytes)?.selector("")?, PayloadEdit::Clear))
    };
    begun.finish(body, build).await
}

/// `POST /collections/{c}/points/batch`: operations one after the other, each atomic, in order. All are checked
/// before the first is carried out.
pub async fn operations(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer<Vec<UpdateResult>>, ApiError> {
    let begun = begin(&doors, &name, &params, &headers)?;
    let collection = begun.collection.clone();
    let writes =
        body.on_bytes(move |bytes| parse::<OperationsBody>(bytes)?.build(&collection.config())).await?;
    let mut results = Vec::with_capacity(writes.len());
    for (index, write) in writes.into_iter().enumerate() {
        let done = begun.carry_out(write).await;
        results.push(done.map_err(|error| error.with("operation", index).with("operations_done", index))?);
    }
    Ok(Answer::new(results))
}
