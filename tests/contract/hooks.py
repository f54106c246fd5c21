"""What schemathesis cannot learn from the description.

The servers enforce their limits (429, which is described), and a run would meet little else. So `before_call` deletes the
limits' counters from the run's own Redis before each request, as the other tests do. The servers run as in production.
"""

import json
import os
import re
import socket
import uuid

import schemathesis
from hypothesis import strategies
from schemathesis.auths import refresh_auth
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

FORGET = """
for _, key in ipairs(redis.call('KEYS', 'rate_limit:*')) do redis.call('DEL', key) end
return 'OK'
"""
KEY = re.compile(r"[!-~]{1,255}")

ZONES = ["UTC", "Europe/Vienna", "America/Argentina/Buenos_Aires", "Asia/Kathmandu", "Pacific/Kiritimati"]
schemathesis.openapi.format("time-zone", strategies.sampled_from(ZONES))

redis = socket.create_connection(("127.0.0.1", int(os.environ["REDIS_PORT"])))
redis_answers = redis.makefile("rb")


def ask_redis(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n"] + [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    redis.sendall("".join(parts).encode())
    return redis_answers.readline()


@schemathesis.hook
def before_call(context, case, kwargs):
    """Replaces each valid idempotency key by a new one: the servers rightly refuse a key used again with another body."""
    assert ask_redis("EVAL", FORGET, "0") == b"$2\r\n" and redis_answers.readline() == b"OK\r\n"
    for name in list(case.headers):
        if name.lower() == "idempotency-key" and KEY.fullmatch(str(case.headers[name])):
            case.headers[name] = str(uuid.uuid4())


@schemathesis.hook
def after_call(context, case, response):
    """Logs in again after a logout, and after the end of a session that may be the caller's own."""
    if response.status_code == 204 and case.path in ("/v1/auth/logout", "/v1/me/sessions/{session}"):
        refresh_auth(case)


# Values that no schema can tell from valid ones, and the reason that the servers rightly give. Generated values are
# meaningful where `schemathesis.toml` names some; those that the boundary coverage makes by itself are not.
MEANINGLESS = {
    ("actor", "is one filter too many"),
    ("circle", "is one filter too many"),
    ("user", "is one filter too many"),
    ("user", "must be somebody else"),
    ("after", "is neither a cursor of this list nor a number"),
    ("after", "is not for both directions"),
    ("after", "is not a cursor of this list"),
    ("message", "is a comment itself"),
    ("before", "is not for both directions"),
    ("before", "is not a cursor of this list"),
    ("category", "is not a category"),
    ("circle_id", "must be there of a message alone"),
    ("current", "is not the password"),
    ("number", "is above the newest message's number"),
    ("password", "is not the password"),
    ("token", "is not good, or not any more: ask for another mail"),
    ("before", "is neither a cursor of this list nor a number"),
    ("cursor", "is not a cursor of this list"),
    ("cursor", "must not contain control characters"),
    # 1.0 is a whole number to JSON Schema.
    ("edit.number", "must be a whole number"),
    ("q", "must have a word to look for"),
    ("q", "must not contain control characters"),
    ("q", "has too many words: at most 16, or 64 with those of phrases"),
    ("kind", "must be `messages` with `from:`, `in:` or `circle`"),
    ("endpoint", "is not a URL"),
    ("endpoint", "is not a whole URL"),
    ("endpoint", "must begin with `https://`"),
    ("endpoint", "must hold no user or password"),
    ("endpoint", "must lead to a public address"),
    ("keys.p256dh", "is not a public key of P-256"),
    ("entry_date", "must be a day from 1900 to today"),
    ("key", "is not the name of a copy in Redis"),
    ("logged_at", "must be a time from 1970 to now"),
    ("prompt_id", "is not a prompt"),
    ("time_zone", "must be the IANA name of a time zone"),
    ("until", "is over"),
    ("uses", "is 1 for an invitation of one person"),
    ("user", "does not exist"),
    ("user", "is a member already"),
    ("user", "is banned from this circle"),
}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Keeps every failure except two: the server refused a meaningless value for that very reason; and it still shows a
    circle to its members after DELETE, which archives it, and one's sessions, of which DELETE ends all others."""
    match failure:
        case RejectedPositiveData():
            errors = json.loads(response.content).get("errors", [])
            return not errors or any((error["field"], error["reason"]) not in MEANINGLESS for error in errors)
        case UseAfterFree():
            return re.fullmatch("DELETE /v1/(circles/[^/]+|me/sessions)", failure.free) is None
    return True
