//! Refusals in the terms of protobuf and gRPC.

use collm_core::frame::{Refusal, RefusalCode};
use tonic::{Code, Status};

use crate::proto;

/// The status that ends the stream after a `Refused` frame. The edge acts on the frame; the status is for proxies and
/// dashboards, which count outcomes without reading frames.
pub fn status(refusal: &Refusal) -> Status {
    let code = match refusal.code {
        RefusalCode::Protocol | RefusalCode::Identity | RefusalCode::Feed => Code::FailedPrecondition,
        RefusalCode::Malformed => Code::InvalidArgument,
        RefusalCode::ContextLength => Code::OutOfRange,
        RefusalCode::Busy => Code::ResourceExhausted,
        RefusalCode::Draining => Code::Unavailable,
        RefusalCode::Internal => Code::Internal,
        RefusalCode::Superseded => Code::Aborted,
        RefusalCode::Key => Code::Unauthenticated,
    };
    Status::new(code, &refusal.message)
}

/// The refusal that a status alone stands for. Keys are checked before any frame is read, by the cloud or by a gateway before
/// it, so nobody writes a frame then.
pub fn refusal(status: &Status) -> Option<Refusal> {
    let about_keys = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
    about_keys.then(|| Refusal { code: RefusalCode::Key, message: status.message().to_owned() })
}

pub(crate) fn emit_code(code: RefusalCode) -> proto::RefusalCode {
    match code {
        RefusalCode::Protocol => proto::RefusalCode::Protocol,
        RefusalCode::Identity => proto::RefusalCode::Identity,
        RefusalCode::Feed => proto::RefusalCode::Feed,
        RefusalCode::Malformed => proto::RefusalCode::Malformed,
        RefusalCode::ContextLength => proto::RefusalCode::ContextLength,
        RefusalCode::Busy => proto::RefusalCode::Busy,
        RefusalCode::Draining => proto::RefusalCode::Draining,
        RefusalCode::Internal => proto::RefusalCode::Internal,
        RefusalCode::Superseded => proto::RefusalCode::Superseded,
        RefusalCode::Key => proto::RefusalCode::Key,
    }
}

/// A code of a newer cloud must not hide that it refused, nor its message. Taken for `Internal`, it is tried again with
/// the patience of the circuit breaker; a reason that never goes away costs an attempt now and then, while giving up on
/// one that does would lose the cloud for good.
pub(crate) fn parse_code(value: i32) -> RefusalCode {
    match proto::RefusalCode::try_from(value).unwrap_or_default() {
        proto::RefusalCode::Protocol => RefusalCode::Protocol,
        proto::RefusalCode::Identity => RefusalCode::Identity,
        proto::RefusalCode::Feed => RefusalCode::Feed,
        proto::RefusalCode::Malformed => RefusalCode::Malformed,
        proto::RefusalCode::ContextLength => RefusalCode::ContextLength,
        proto::RefusalCode::Busy => RefusalCode::Busy,
        proto::RefusalCode::Draining => RefusalCode::Draining,
        proto::RefusalCode::Internal | proto::RefusalCode::Unspecified => RefusalCode::Internal,
        proto::RefusalCode::Superseded => RefusalCode::Superseded,
        proto::RefusalCode::Key => RefusalCode::Key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_a_newer_cloud_are_refusals_to_retry() {
        for value in [0, -1, 11, i32::MAX] {
            assert!(parse_code(value).retryable(), "{value}");
        }
    }

    #[test]
    fn a_status_about_keys_is_a_refusal_for_good() {
        let refused = refusal(&Status::unauthenticated("no such key")).expect("about keys");
        assert_eq!((refused.code, refused.message.as_str()), (RefusalCode::Key, "no such key"));
        assert!(!refused.code.retryable());
        assert_eq!(refusal(&Status::unavailable("gone")), None);
    }

    #[test]
    fn the_status_carries_the_message() {
        let refusal = Refusal { code: RefusalCode::Busy, message: "all 8 contexts are taken".into() };
        let status = status(&refusal);
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "all 8 contexts are taken"));
    }
}
