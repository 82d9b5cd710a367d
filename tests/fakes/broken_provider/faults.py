"""The faults that can be planted, each a rule broken; and the rules that must find each."""

from __future__ import annotations

from enum import Enum, auto


class Fault(Enum):
    # What is declared
    FOREIGN_PRODUCT = auto()
    PRODUCT_TWICE = auto()
    FLAG_AS_TEXT = auto()
    PRODUCTS_CHANGE = auto()
    LICENSE_WITHOUT_CATEGORY = auto()
    DECLARED_REFUSED = auto()
    UNDECLARED_OPENS = auto()
    NO_ERROR_CODE = auto()
    # Who is let in
    EXPIRED_TOKEN = auto()
    UNSIGNED_TOKEN = auto()
    PUBLIC_KEY_TOKEN = auto()
    SUBJECT_UNCHECKED = auto()
    CLAIMS_UNCHECKED = auto()
    AUDIENCE_IS_TEXT = auto()
    ANY_PROVIDER = auto()
    CONTENT_TYPE = auto()
    UNKNOWN_CALL = auto()
    OPEN_FOLLOW = auto()
    # Bodies and forms
    ITEM_NULL_FAILS = auto()
    TEXT_NUMBERS = auto()
    NO_OWNER = auto()
    EMPTY_BULK = auto()
    LONG_BULK = auto()
    UNKNOWN_KEYS = auto()
    NULLS = auto()
    TYPE_FIRST = auto()
    SMALL_NUMBERS = auto()
    PLAIN_ERRORS = auto()
    SAMPLE_RATE = auto()
    NO_LIMIT = auto()
    # Creates and ends
    SHORT_ANSWER = auto()
    COMMA_IDS = auto()
    SAME_IDS = auto()
    REPEAT_REFUSED = auto()
    REPLACED = auto()
    HALF_A_BULK = auto()
    ANY_PRODUCT = auto()
    SPLIT_ARGUMENTS = auto()
    UNKNOWN_404 = auto()
    TWICE_409 = auto()
    EMPTY_ANSWER = auto()
    RUNS_ON = auto()
    EXTEND_FORGOTTEN = auto()
    ACL_MISSING = auto()
    TEXT_UTILIZATION = auto()
    SLOW = auto()
    # Replicas
    RANK_0_ONLY = auto()
    RANKS_FROM_1 = auto()
    NO_CORES_FILE = auto()
    TWO_LINES = auto()
    OWN_FOLDERS = auto()
    # Follows and sessions
    NO_STDERR = auto()
    TORN_CHARACTERS = auto()
    LINES_TWICE = auto()
    NO_LAST_WORD = auto()
    LAST_WORD_500 = auto()
    NO_FOLLOW_ID = auto()
    CANCEL_UNHEARD = auto()
    STREAMS_MIXED = auto()
    GARBAGE_ENDS = auto()
    SHORT_MESSAGES = auto()
    ENDS_FIRST = auto()
    SESSIONS_SORTED = auto()
    SAME_SECRET = auto()
    ANY_SECRET = auto()
    # Licenses
    LICENSE_GONE_404 = auto()
    OPEN_LICENSES = auto()
    LICENSE_STATE = auto()
    # What Core is told
    EXIT_CODE = auto()
    EXPIRED_FAILS = auto()
    NO_FOLDER = auto()
    VERIFY_SILENT = auto()
    NULL_TIMESTAMP = auto()
    TOTAL_IN_SECONDS = auto()
    UPDATE_LOST = auto()
    TOKEN_KEPT = auto()
    TWO_ENDS = auto()
    DISOWNED_RUNS = auto()
    # Money
    CHARGE_IDS = auto()
    ONE_PRODUCT = auto()
    NO_UNITS = auto()
    CHARGED_ANEW = auto()
    BROKE_RUNS = auto()
    NO_SCOPE = auto()
    USAGE_FALLS = auto()


FOUND_BY: dict[Fault, tuple[str, ...]] = {
    Fault.FOREIGN_PRODUCT: ("products.provider",),
    Fault.PRODUCT_TWICE: ("products.once",),
    Fault.FLAG_AS_TEXT: ("products.flags",),
    Fault.PRODUCTS_CHANGE: ("products.steady",),
    Fault.LICENSE_WITHOUT_CATEGORY: ("products.licenses",),
    Fault.DECLARED_REFUSED: ("declared.web", "sessions.web"),
    Fault.UNDECLARED_OPENS: ("declared.vnc",),
    Fault.NO_ERROR_CODE: ("declared.vnc", "declared.backends", "declared.suspension-2021"),
    Fault.EXPIRED_TOKEN: ("access.expired", "follow.strangers"),
    Fault.UNSIGNED_TOKEN: ("access.unsigned",),
    Fault.PUBLIC_KEY_TOKEN: ("access.public-key",),
    Fault.SUBJECT_UNCHECKED: ("access.subject",),
    Fault.CLAIMS_UNCHECKED: ("access.subject", "access.role", "access.own-token"),
    Fault.AUDIENCE_IS_TEXT: ("access.audience",),
    Fault.ANY_PROVIDER: ("access.provider",),
    Fault.CONTENT_TYPE: ("access.no-content-type",),
    Fault.UNKNOWN_CALL: ("access.unknown-call",),
    Fault.OPEN_FOLLOW: ("follow.strangers",),
    Fault.ITEM_NULL_FAILS: ("bodies.item-null", "whole.no-5xx"),
    Fault.TEXT_NUMBERS: ("bodies.wrong-type",),
    Fault.NO_OWNER: ("bodies.missing-key",),
    Fault.EMPTY_BULK: ("bodies.none",),
    Fault.LONG_BULK: ("bodies.too-many",),
    Fault.UNKNOWN_KEYS: ("forms.unknown-keys",),
    Fault.NULLS: ("forms.nulls",),
    Fault.TYPE_FIRST: ("forms.type-last",),
    Fault.SMALL_NUMBERS: ("forms.large-numbers",),
    Fault.PLAIN_ERRORS: ("whole.errors",),
    Fault.SAMPLE_RATE: ("forms.sample-rate",),
    Fault.NO_LIMIT: ("forms.no-limit",),
    Fault.SHORT_ANSWER: ("create.answer", "create.many"),
    Fault.COMMA_IDS: ("create.answer", "create.answer-object"),
    Fault.SAME_IDS: ("whole.ids",),
    Fault.REPEAT_REFUSED: ("create.again", "forms.escapes"),
    Fault.REPLACED: ("create.conflict",),
    Fault.HALF_A_BULK: ("create.poison", "news.known"),
    Fault.ANY_PRODUCT: ("create.product", "create.foreign-product"),
    Fault.SPLIT_ARGUMENTS: ("create.arguments",),
    Fault.UNKNOWN_404: ("terminate.unknown", "terminate.mixed", "terminate.many", "access.no-content-type"),
    Fault.TWICE_409: ("terminate.again",),
    Fault.EMPTY_ANSWER: ("terminate.answer", "terminate.unknown", "terminate.mixed", "bodies.none-2026", "whole.objects"),
    Fault.RUNS_ON: ("terminate.ends", "terminate.mixed", "follow.end", "frames.last", "life.terminated", "whole.ended"),
    Fault.EXTEND_FORGOTTEN: ("extend.lasts",),
    Fault.ACL_MISSING: ("updateAcl.answer", "updateAcl.unknown"),
    Fault.TEXT_UTILIZATION: ("utilization.answer",),
    Fault.SLOW: ("whole.in-time",),
    Fault.RANK_0_ONLY: ("replicas.run", "replicas.work"),
    Fault.RANKS_FROM_1: ("replicas.rank", "replicas.work"),
    Fault.NO_CORES_FILE: ("replicas.cores",),
    Fault.TWO_LINES: ("replicas.lines",),
    Fault.OWN_FOLDERS: ("replicas.work",),
    Fault.NO_STDERR: ("follow.errors",),
    Fault.TORN_CHARACTERS: ("follow.characters",),
    Fault.LINES_TWICE: ("follow.live",),
    Fault.NO_LAST_WORD: ("follow.end", "frames.last", "terminate.ends", "terminate.mixed"),
    Fault.LAST_WORD_500: ("frames.last",),
    Fault.NO_FOLLOW_ID: ("frames.followId",),
    Fault.CANCEL_UNHEARD: ("frames.cancel",),
    Fault.STREAMS_MIXED: ("frames.shared",),
    Fault.GARBAGE_ENDS: ("frames.garbage",),
    Fault.SHORT_MESSAGES: ("socket.fragments",),
    Fault.ENDS_FIRST: ("socket.end",),
    Fault.SESSIONS_SORTED: ("sessions.places",),
    Fault.SAME_SECRET: ("sessions.secret",),
    Fault.ANY_SECRET: ("shell.secret",),
    Fault.LICENSE_GONE_404: ("licenses.delete-again", "licenses.delete-unknown"),
    Fault.OPEN_LICENSES: ("licenses.token",),
    Fault.LICENSE_STATE: ("licenses.told",),
    Fault.EXIT_CODE: ("life.exit-code",),
    Fault.EXPIRED_FAILS: ("life.expired",),
    Fault.NO_FOLDER: ("life.folder",),
    Fault.VERIFY_SILENT: ("life.verify",),
    Fault.NULL_TIMESTAMP: ("news.timestamp",),
    Fault.TOTAL_IN_SECONDS: ("life.extended",),
    Fault.UPDATE_LOST: ("news.repeated",),
    Fault.TOKEN_KEPT: ("news.renewed", "news.alone", "whole.ended"),
    Fault.TWO_ENDS: ("news.end",),
    Fault.DISOWNED_RUNS: ("news.disowned",),
    Fault.CHARGE_IDS: ("charges.ids",),
    Fault.ONE_PRODUCT: ("charges.amount",),
    Fault.NO_UNITS: ("charges.form", "charges.amount"),
    Fault.CHARGED_ANEW: ("charges.repeated",),
    Fault.BROKE_RUNS: ("charges.broke",),
    Fault.NO_SCOPE: ("charges.form-2026",),
    Fault.USAGE_FALLS: ("charges.scopes",),
}
"""Exactly these fail, in the generation of `generation_of`."""

OF_TODAY = frozenset(
    {
        Fault.SAMPLE_RATE,
        Fault.NO_LIMIT,
        Fault.EMPTY_ANSWER,
        Fault.SHORT_MESSAGES,
        Fault.ENDS_FIRST,
        Fault.NULL_TIMESTAMP,
        Fault.TOTAL_IN_SECONDS,
        Fault.DISOWNED_RUNS,
        Fault.NO_SCOPE,
        Fault.USAGE_FALLS,
    }
)
"""Tried in generation 2026; the others in 2021."""
