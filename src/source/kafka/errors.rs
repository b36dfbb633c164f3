//! Which of the client's errors pass, and which need somebody.
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::source::SourceError;

/// A condition that the client reports without an error value of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Perhaps it will be created in a moment.
    #[error("the brokers know no topic {0:?}; create it, or correct `topics`")]
    UnknownTopic(String),
    /// Confirmed a few times before anything is read again from its beginning.
    #[error(
        "{partition} ends before our position {position}; looking again before it is taken for a new topic"
    )]
    ShorterThanOurPosition {
        /// `topic/partition`.
        partition: String,
        /// What our log holds.
        position: i64,
    },
    /// The client's code with the text that came along.
    #[error("{code}: {reason}")]
    Client {
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// Which broker, which address.
        reason: String,
    },
    /// An acknowledgement did not come.
    #[error("{missing} of {sent} records were not acknowledged in time")]
    Unacknowledged {
        /// Without an answer.
        missing: usize,
        /// All of them.
        sent: usize,
    },
}

/// What the meaning of an error depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Is the source a member of a consumer group?
    pub is_group: bool,
    /// Has a broker answered since the source was opened?
    pub has_connected: bool,
}

/// The remedy where waiting does not help; `None` where it may.
///
/// A missing topic is not fatal, however long it is missing: a pipeline is often applied before its topic
/// exists, and a deleted topic may come back. The pipeline's status shows the text meanwhile.
fn remedy(code: RDKafkaErrorCode, standing: Standing) -> Option<&'static str> {
    use RDKafkaErrorCode::*;
    Some(match code {
        Authentication | SaslAuthenticationFailed => {
            "check the user, the password and `sasl.mechanism` under `client`"
        }
        UnsupportedSASLMechanism | IllegalSASLState => "choose a `sasl.mechanism` that the brokers offer",
        // A broker that dies during a handshake looks like a bad certificate: only the first connection tells.
        SSL if !standing.has_connected => {
            "check `ssl.ca.location`, the certificates and the brokers' names under `client`"
        }
        TopicAuthorizationFailed => "grant Read and Describe on the topic",
        // Pinned sources only commit to their group, for dashboards: they can do without.
        GroupAuthorizationFailed if standing.is_group => "grant Read on the consumer group",
        ClusterAuthorizationFailed => "grant what the brokers' log names",
        Fatal | Fenced | FencedInstanceId => {
            "give every member of the group its own `group.instance.id`, then resume"
        }
        InvalidGroupId | InconsistentGroupProtocol => {
            "use another group id, or stop the clients that use this one otherwise"
        }
        InvalidTopic => "correct `topics`",
        UnsupportedVersion => "upgrade the brokers, or remove `group.protocol` from `client`",
        _ => return None,
    })
}

/// The source's error for one of the client's.
pub(super) fn classify(
    action: &str,
    error: KafkaError,
    reason: Option<String>,
    standing: Standing,
) -> SourceError {
    let code = error.rdkafka_error_code();
    if let Some(remedy) = code.and_then(|code| remedy(code, standing)) {
        let detail = reason.unwrap_or_else(|| error.to_string());
        return SourceError::Fatal { problem: format!("{action} failed: {detail}"), remedy: remedy.into() };
    }
    if let KafkaError::ClientConfig(_, text, key, _) = &error {
        // Never the value: it may be a password.
        return SourceError::Fatal {
            problem: format!("the client setting `{key}` is refused: {text}"),
            remedy: "correct or remove it under `client`".into(),
        };
    }
    if let KafkaError::ClientCreation(text) = &error {
        return SourceError::Fatal {
            problem: format!("{action} failed: {text}"),
            remedy: "correct the settings under `client`".into(),
        };
    }
    let source: Box<dyn std::error::Error + Send + Sync> = match (code, reason) {
        (Some(code), Some(reason)) => Box::new(Trouble::Client { code, reason }),
        _ => Box::new(error),
    };
    SourceError::Transient { action: action.to_owned(), source }
}

/// A passing condition of ours.
pub(super) fn transient(action: String, trouble: Trouble) -> SourceError {
    SourceError::Transient { action, source: Box::new(trouble) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_need_somebody_and_outages_pass() {
        let of = |code, is_group| {
            let standing = Standing { is_group, has_connected: true };
            classify("reading", KafkaError::MessageConsumption(code), Some("why".into()), standing)
        };
        for code in [
            RDKafkaErrorCode::Authentication,
            RDKafkaErrorCode::SaslAuthenticationFailed,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            assert!(matches!(of(code, false), SourceError::Fatal { .. }), "{code}");
        }
        for code in [
            RDKafkaErrorCode::AllBrokersDown,
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::UnknownTopicOrPartition,
            RDKafkaErrorCode::GroupAuthorizationFailed,
        ] {
            assert!(matches!(of(code, false), SourceError::Transient { .. }), "{code}");
        }
        assert!(matches!(of(RDKafkaErrorCode::GroupAuthorizationFailed, true), SourceError::Fatal { .. }));
    }

    #[test]
    fn a_refused_setting_is_named_without_its_value() {
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "bad".into(),
            "sasl.password".into(),
            "hunter2".into(),
        );
        let standing = Standing { is_group: false, has_connected: false };
        let text = classify("opening", error, None, standing).to_string();
        assert!(text.contains("sasl.password") && !text.contains("hunter2"), "{text}");
    }
}
