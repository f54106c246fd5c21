"""What schemathesis cannot know from the description.

Limits are answered truly (429, which is described); a run would meet little else. So their counters are dropped before
each request, as the other tests do, from the run's own Redis: nothing in the servers is other than in production.
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
    """A new idempotency key takes the place of each good one: used again with another body it is refused, and rightly."""
    assert ask_redis("EVAL", FORGET, "0") == b"$2\r\n" and redis_answers.readline() == b"OK\r\n"
    for name in list(case.headers):
        if name.lower() == "idempotency-key" and KEY.fullmatch(str(case.headers[name])):
            case.headers[name] = str(uuid.uuid4())


@schemathesis.hook
def after_call(context, case, response):
    """Who has logged out, or ended a session that may be their own, logs in again."""
    if response.status_code == 204 and case.path in ("/v1/auth/logout", "/v1/me/sessions/{session}"):
        refresh_auth(case)


# Values that no schema can tell from good ones, and what is rightly said of them. Generated values mean something where
# `schemathesis.toml` names some that do; what the coverage of boundaries makes by itself does not.
MEANINGLESS = {
    ("before", "is not a cursor of this list"),
    ("cursor", "is not a cursor of this list"),
    ("entry_date", "must be a day from 1900 to today"),
    ("key", "is not the name of a copy in Redis"),
    ("logged_at", "must be a time from 1970 to now"),
    ("prompt_id", "is not a prompt"),
    ("time_zone", "must be the IANA name of a time zone"),
    ("user", "does not exist"),
    ("user", "is a member already"),
    ("user", "is banned from this circle"),
}


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Keeps every failure but two: a value that is meaningless was refused, for that reason and no other; and a circle that
    was archived, which is what deleting it does, is still shown to its members."""
    match failure:
        case RejectedPositiveData():
            errors = json.loads(response.content).get("errors", [])
            return not errors or any((error["field"], error["reason"]) not in MEANINGLESS for error in errors)
        case UseAfterFree():
            return re.fullmatch("DELETE /v1/circles/[^/]+", failure.free) is None
    return True
