"""The error map: every exception of kafka-python, and what we call it.

``VERDICTS`` names each class of ``kafka.errors`` (and the two that live elsewhere) by what to do
next; ``tests/log/test_kafka_border.py`` fails when a release of kafka-python knows a class that
is not here. An error that a newer broker invents is told by its nearest known ancestor.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kafka import errors
from kafka.consumer.fetcher import RecordTooLargeError
from kafka.coordinator.base import UnjoinedGroupException

from exchange.errors import Denied, ExchangeError, Integrity, Misconfigured, Rejected, Transient
from exchange.foreign import original
from exchange.log import Fenced
from exchange.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DETAIL = 300


class Verdict(NamedTuple):
    """What a group of foreign errors means, and what the reader does next."""

    kind: type[ExchangeError]
    hint: Text


AWAY = Verdict(
    Transient,
    Text(
        "集群暂时不可用或繁忙:稍后重试;持续出现时检查代理是否在运行、网络是否通畅",
        "the cluster is away or busy: try again; if it stays so, check its brokers and the network",
    ),
)
REPLICAS = Verdict(
    Transient,
    Text(
        "同步副本不足,写入在等待:恢复停止的代理",
        "too few replicas are in sync and writes wait: bring the stopped brokers back",
    ),
)
FENCED = Verdict(
    Fenced,
    Text("丢弃已读内容,重新读取", "drop what was read and poll again"),
)
REFUSED = Verdict(
    Rejected,
    Text(
        "内容或请求不被集群接受,重试无用", "the cluster refuses this content; do not try it again"
    ),
)
SETUP = Verdict(
    Misconfigured,
    Text(
        "核对 log.kafka 配置与代理的版本和配置(exchange doctor)",
        "compare log.kafka with the brokers' version and configuration (exchange doctor)",
    ),
)
RIGHTS = Verdict(
    Denied,
    Text(
        "核对 log.kafka 的 user 与 password,以及该用户的 ACL",
        "check user and password under log.kafka, and the user's ACLs",
    ),
)
BROKEN = Verdict(
    Integrity,
    Text(
        "日志内容与写入时不符:停止处理,联系管理员检查代理的磁盘与副本",
        "the log is not what was written: stop, and have the brokers' disks and replicas checked",
    ),
)

_BY_VERDICT: dict[Verdict, tuple[type[Exception], ...]] = {
    AWAY: (
        errors.KafkaError,
        errors.RetriableError,
        errors.InvalidMetadataError,
        errors.Cancelled,
        errors.KafkaConnectionError,
        errors.CorrelationIdError,
        errors.KafkaTimeoutError,
        errors.MetadataEmptyBrokerList,
        errors.NodeNotReadyError,
        errors.UnknownBrokerIdError,
        errors.QuotaViolationError,
        errors.StaleMetadata,
        errors.TooManyInFlightRequests,
        errors.TransactionAbortedError,
        errors.BrokerResponseError,
        errors.UnknownError,
        errors.LeaderNotAvailableError,
        errors.NotLeaderForPartitionError,
        errors.RequestTimedOutError,
        errors.BrokerNotAvailableError,
        errors.ReplicaNotAvailableError,
        errors.StaleControllerEpochError,
        errors.NetworkExceptionError,
        errors.CoordinatorLoadInProgressError,
        errors.CoordinatorNotAvailableError,
        errors.NotCoordinatorError,
        errors.NotControllerError,
        errors.ConcurrentTransactionsError,
        errors.TransactionCoordinatorFencedError,
        errors.OperationNotAttemptedError,
        errors.KafkaStorageError,
        errors.ReassignmentInProgressError,
        errors.FetchSessionIdNotFoundError,
        errors.InvalidFetchSessionEpochError,
        errors.ListenerNotFoundError,
        errors.FencedLeaderEpochError,
        errors.UnknownLeaderEpochError,
        errors.StaleBrokerEpochError,
        errors.OffsetNotAvailableError,
        errors.PreferredLeaderNotAvailableError,
        errors.EligibleLeadersNotAvailableError,
        errors.ElectionNotNeededError,
        errors.NoReassignmentInProgressError,
        errors.UnstableOffsetCommitError,
        errors.ThrottlingQuotaExceededError,
        errors.UnknownTopicIdError,
        errors.InconsistentTopicIdError,
        errors.FetchSessionTopicIdError,
        errors.NewLeaderElectedError,
        errors.IneligibleReplicaError,
        errors.InvalidUpdateVersionError,
        errors.BrokerIdNotRegisteredError,
        errors.SnapshotNotFoundError,
        errors.PositionOutOfRangeError,
        errors.UnknownControllerIdError,
        errors.UnknownSubscriptionIdError,
        errors.TelemetryTooLargeError,
        errors.TransactionAbortableError,
        errors.ShareSessionNotFoundError,
        errors.InvalidShareSessionEpochError,
        errors.InvalidRecordStateError,
        errors.FencedStateEpochError,
        errors.MemberIdRequiredError,
        errors.GroupMaxSizeReachedError,
        errors.UnreleasedInstanceIdError,
        errors.OffsetMovedToTieredStorageError,
        UnjoinedGroupException,
    ),
    REPLICAS: (
        errors.NotEnoughReplicasError,
        errors.NotEnoughReplicasAfterAppendError,
    ),
    FENCED: (
        errors.CommitFailedError,
        errors.IllegalGenerationError,
        errors.UnknownMemberIdError,
        errors.RebalanceInProgressError,
        errors.FencedInstanceIdError,
        errors.FencedMemberEpochError,
        errors.StaleMemberEpochError,
        errors.ProducerFencedError,
        errors.InvalidProducerEpochError,
        errors.InvalidProducerIdMappingError,
        errors.InvalidTxnStateError,
        errors.UnknownProducerIdError,
        errors.OutOfOrderSequenceNumberError,
        errors.DuplicateSequenceNumberError,
        errors.TransactionalIdNotFoundError,
        errors.NoOffsetForPartitionError,
    ),
    REFUSED: (
        errors.MessageSizeTooLargeError,
        errors.RecordListTooLargeError,
        errors.InvalidRecordError,
        errors.InvalidTimestampError,
        errors.OffsetMetadataTooLargeError,
        errors.InvalidCommitOffsetSizeError,
        errors.PolicyViolationError,
        RecordTooLargeError,
    ),
    SETUP: (
        errors.IllegalArgumentError,
        errors.IllegalStateError,
        errors.KafkaConfigurationError,
        errors.KafkaProtocolError,
        errors.InvalidReceiveError,
        errors.UnrecognizedBrokerVersion,
        errors.UnsupportedCodecError,
        errors.NoError,
        errors.UnknownTopicOrPartitionError,
        errors.InvalidFetchRequestError,
        errors.InvalidTopicError,
        errors.InvalidRequiredAcksError,
        errors.InconsistentGroupProtocolError,
        errors.InvalidGroupIdError,
        errors.InvalidSessionTimeoutError,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        errors.UnsupportedVersionError,
        errors.IncompatibleBrokerVersion,
        errors.TopicAlreadyExistsError,
        errors.InvalidPartitionsError,
        errors.InvalidReplicationFactorError,
        errors.InvalidReplicationAssignmentError,
        errors.InvalidConfigurationError,
        errors.InvalidRequestError,
        errors.UnsupportedForMessageFormatError,
        errors.InvalidTransactionTimeoutError,
        errors.LogDirNotFoundError,
        errors.NonEmptyGroupError,
        errors.GroupIdNotFoundError,
        errors.TopicDeletionDisabledError,
        errors.UnsupportedCompressionTypeError,
        errors.GroupSubscribedToTopicError,
        errors.ResourceNotFoundError,
        errors.DuplicateResourceError,
        errors.InconsistentVoterSetError,
        errors.FeatureUpdateFailedError,
        errors.DuplicateBrokerRegistrationError,
        errors.InconsistentClusterIdError,
        errors.UnsupportedAssignorError,
        errors.MismatchedEndpointTypeError,
        errors.UnsupportedEndpointTypeError,
        errors.InvalidRegistrationError,
        errors.InvalidVoterKeyError,
        errors.DuplicateVoterError,
        errors.VoterNotFoundError,
    ),
    RIGHTS: (
        errors.AuthorizationError,
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.TransactionalIdAuthorizationFailedError,
        errors.DelegationTokenAuthorizationFailedError,
        errors.SaslAuthenticationFailedError,
        errors.SecurityDisabledError,
        errors.DelegationTokenAuthDisabledError,
        errors.DelegationTokenNotFoundError,
        errors.DelegationTokenOwnerMismatchError,
        errors.DelegationTokenRequestNotAllowedError,
        errors.DelegationTokenExpiredError,
        errors.InvalidPrincipalTypeError,
        errors.UnacceptableCredentialError,
        errors.PrincipalDeserializationFailureError,
    ),
    BROKEN: (
        errors.CorruptRecordError,
        errors.LogTruncationError,
        errors.OffsetOutOfRangeError,
    ),
}
STALE_MEMBER = (
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    errors.FencedInstanceIdError,
)
"""The group moved on since this member read: nothing is wrong, it has to read again."""
VERDICTS = {kind: verdict for verdict, kinds in _BY_VERDICT.items() for kind in kinds}


def translate(error: BaseException, what: Text) -> ExchangeError:
    """Return our error for a foreign one that happened while doing ``what``."""
    inner = error
    while type(inner) is errors.KafkaError and inner.args:  # wrapped: the last one tells why
        found = inner.args[-1]
        if isinstance(found, type) and issubclass(found, BaseException):
            found = found()
        if not isinstance(found, errors.KafkaError):
            break
        inner = found
    verdict = next((VERDICTS[kind] for kind in type(inner).__mro__ if kind in VERDICTS), AWAY)
    detail = original(f"{type(inner).__name__}: {inner}"[:_MAX_DETAIL])
    return verdict.kind(
        Text(f"{what.zh}失败（{detail.zh}）", f"{what.en} failed ({detail.en})"), hint=verdict.hint
    )


@contextmanager
def map_errors(what: Text) -> Iterator[None]:
    """Turn what kafka-python raises inside the block into one of our errors."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise translate(error, what) from error
