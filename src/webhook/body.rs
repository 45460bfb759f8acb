//! Reads bodies within bounds: of size, of time, and of the memory that large ones may take together.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::WebhookError;

/// How long a body may take to arrive.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bodies up to here are read whatever else is under way, so that a flood of large ones keeps no ordinary event out.
const SMALL: usize = 64 * 1024;
/// What the larger ones may hold together; one of the largest size is always let in.
const LARGE_TOGETHER: usize = 32 * 1024 * 1024;
/// What a permit of the semaphore stands for.
const UNIT: usize = 64 * 1024;

/// The memory that large bodies share, from their arrival until their event is answered. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyMemory {
    large: Arc<Semaphore>,
    largest: usize,
}

/// A body, and its share of the memory.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl BodyMemory {
    /// Memory for bodies of up to `largest` bytes each.
    #[must_use]
    pub fn new(largest: usize) -> Self {
        let units = LARGE_TOGETHER.max(largest).div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self { large: Arc::new(Semaphore::new(units)), largest }
    }

    /// Reads a request's body to its end.
    pub(super) async fn read(&self, request: &HttpRequest, payload: Payload) -> Result<Body, WebhookError> {
        let announced = request.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > self.largest) {
            return Err(WebhookError::TooLarge(self.largest));
        }
        let collected = self.collect(payload, announced.unwrap_or(self.largest));
        tokio::time::timeout(TIMEOUT, collected).await.map_err(|_| WebhookError::TooSlow)?
    }

    async fn collect(&self, mut payload: Payload, at_most: usize) -> Result<Body, WebhookError> {
        let mut body = Body { bytes: Vec::new(), share: None };
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|_| WebhookError::Unreadable)?;
            let length = body.bytes.len() + chunk.len();
            if length > self.largest {
                return Err(WebhookError::TooLarge(self.largest));
            }
            if length > body.bytes.capacity() {
                // By what has arrived, not by what is announced: a promise costs its sender nothing.
                let bound = if length <= SMALL { at_most.min(SMALL) } else { at_most };
                let capacity = (2 * length).min(bound).max(length);
                self.take_share(&mut body.share, capacity)?;
                body.bytes.reserve_exact(capacity - body.bytes.len());
            }
            body.bytes.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Takes what a body of this capacity needs beyond the share that it has.
    fn take_share(&self, share: &mut Option<OwnedSemaphorePermit>, capacity: usize) -> Result<(), WebhookError> {
        if capacity <= SMALL {
            return Ok(());
        }
        let had = share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(capacity.div_ceil(UNIT).saturating_sub(had)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.large).try_acquire_many_owned(more).map_err(|error| match error {
            // The semaphore is never closed.
            TryAcquireError::NoPermits | TryAcquireError::Closed => WebhookError::Busy,
        })?;
        match share {
            Some(share) => share.merge(taken),
            None => *share = Some(taken),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use actix_web::web::Bytes;
    use futures_util::stream;

    use super::*;

    const MIB: usize = 1024 * 1024;

    async fn read(memory: &BodyMemory, chunks: Vec<usize>) -> Result<Body, WebhookError> {
        let chunks = chunks.into_iter().map(|length| Ok(Bytes::from(vec![b'x'; length])));
        let payload =
            Payload::from(Box::pin(stream::iter(chunks)) as std::pin::Pin<Box<dyn futures_util::Stream<Item = _>>>);
        memory.read(&TestRequest::default().to_http_request(), payload).await
    }

    #[actix_web::test]
    async fn bodies_are_read_up_to_the_largest_size() {
        let memory = BodyMemory::new(MIB);
        for (chunks, length) in [(vec![], 0), (vec![10, 20], 30), (vec![SMALL, 1], SMALL + 1), (vec![MIB / 2; 2], MIB)]
        {
            let body = read(&memory, chunks).await.unwrap_or_else(|error| panic!("{length}: {error}"));
            assert_eq!(body.bytes.len(), length);
            assert_eq!(body.share.is_some(), length > SMALL);
            let held = body.share.map_or(0, |share| share.num_permits() * UNIT);
            assert!(length <= SMALL || held >= length, "{length}: {held}");
        }
        assert!(matches!(read(&memory, vec![MIB, 1]).await, Err(WebhookError::TooLarge(MIB))));
        assert_eq!(memory.large.available_permits(), LARGE_TOGETHER / UNIT, "every share was given back");
    }

    #[actix_web::test]
    async fn large_bodies_share_what_they_may_hold_and_small_ones_are_always_read() {
        let memory = BodyMemory::new(8 * MIB);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(read(&memory, vec![8 * MIB]).await.unwrap_or_else(|error| panic!("{error}")));
        }
        assert!(matches!(read(&memory, vec![SMALL + 1]).await, Err(WebhookError::Busy)));
        assert!(read(&memory, vec![SMALL]).await.is_ok());
        held.pop();
        assert!(read(&memory, vec![8 * MIB]).await.is_ok());
    }

    #[actix_web::test]
    async fn one_body_of_the_largest_size_is_let_in_however_large() {
        assert!(read(&BodyMemory::new(40 * MIB), vec![40 * MIB]).await.is_ok());
    }
}
