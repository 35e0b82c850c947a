from __future__ import annotations

import base64
import random
import string

import pytest

from tenantgate.pii import SECRET_KINDS, find_secrets

R = random.Random(7)
ALNUM = string.ascii_letters + string.digits
URL = ALNUM + "_-"
HEX = "0123456789abcdef"


def some(n: int, alphabet: str = ALNUM) -> str:
    """Random characters, with each class in it; never a real key."""
    return (
        "".join(R.choice(alphabet) for _ in range(n - 3))
        + "a7B"[: 3 if alphabet != HEX else 2]
        + ("0" if alphabet == HEX else "")
    )


def jwt() -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    return f"{head}.{some(40, URL)}.{some(43, URL)}"


PEM = "-----BEGIN {0}PRIVATE KEY-----\n" + some(64) + "\n-----END {0}PRIVATE KEY-----"
KEYS = {
    "AWS_ACCESS_KEY": lambda: "AKIA" + some(16, string.ascii_uppercase)[:13] + "QZ7",
    "AWS_SECRET_KEY": lambda: "aws_secret_access_key=" + some(20) + "/" + some(19),
    "OPENAI_KEY": lambda: "sk-proj-" + some(80, URL),
    "ANTHROPIC_KEY": lambda: "sk-ant-api03-" + some(90, URL),
    "GITHUB_TOKEN": lambda: "github_pat_" + some(22) + "_" + some(59),
    "GITLAB_TOKEN": lambda: "glpat-" + some(20, URL),
    "SLACK_TOKEN": lambda: "xoxb-123456789012-123456789012-" + some(24),
    "SLACK_WEBHOOK": lambda: "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/" + some(24),
    "STRIPE_KEY": lambda: "sk_live_" + some(24),
    "GOOGLE_API_KEY": lambda: "AIza" + some(35, URL),
    "NPM_TOKEN": lambda: "npm_" + some(36),
    "HUGGINGFACE_TOKEN": lambda: "hf_" + some(34),
    "GROQ_KEY": lambda: "gsk_" + some(52),
    "SENDGRID_KEY": lambda: "SG." + some(22, URL) + "." + some(43, URL),
    "TWILIO_KEY": lambda: "SK" + some(32, HEX),
    "PYPI_TOKEN": lambda: "pypi-AgEIcHlwaS5vcmc" + some(70, URL),
    "JWT": jwt,
    "PRIVATE_KEY": lambda: PEM.format(R.choice(("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "))),
    "CONNECTION_STRING": lambda: R.choice(("postgres", "mongodb+srv", "redis", "amqp")) + f"://app:{some(12)}@db.example.com/x",
    "AZURE_KEY": lambda: "AccountName=x;AccountKey=" + some(86) + "==;EndpointSuffix=core.windows.net",
    "TELEGRAM_TOKEN": lambda: "1234567890:AA" + some(33, URL),
    "TOKEN": lambda: R.choice(("api_key = '{}'", '"client_secret": "{}"', "access token: {}", "SESSION_TOKEN={}")).format(some(32)),
    "PASSWORD": lambda: R.choice(("password: {}", "my password is {}", '"passwd": "{}"', "DB_PASSWORD={}", "Passwort: {}")).format(
        some(9) + "!"
    ),
}  # fmt: skip
AROUND = (
    "{}",
    "Why does {} not work?",
    "Here is my config:\n{}\nPlease fix it.",
    "curl -H 'X: {}' https://example.com",
    "k='{}'",
)


@pytest.mark.parametrize("kind", KEYS)
def test_finds_keys_wherever_they_stand(kind: str) -> None:
    assert kind in SECRET_KINDS
    for n in range(40):
        secret = KEYS[kind]()
        text = AROUND[n % len(AROUND)].format(secret)
        found = find_secrets(text)
        assert found, n
        assert {f.kind for f in found} & {kind, "TOKEN"}, (n, found)


@pytest.mark.parametrize(
    "text",
    [
        "How do I reset my password?",
        "Your password is incorrect.",
        "The password must have twelve characters.",
        "password: <your password>",
        "password = os.environ['DB_PASSWORD']",
        "password: ********",
        "api_key: ${API_KEY}",
        "token = get_token(request)",
        "client_secret: {{ .Values.secret }}",
        "What makes a secret ingredient?",
        "The keyboard layout is qwerty-international-2024-edition.",
        "The commit is 3f2504e04f8911d39a0c0305e82c3301.",
        "Use 550e8400-e29b-41d4-a716-446655440000 as the request id.",
        "https://example.com/path?session=none",
        "the task-list-for-monday-and-tuesday",
        "mailto://nobody@example.com",
    ],
)
def test_leaves_ordinary_texts_alone(text: str) -> None:
    assert find_secrets(text) == ()


def test_the_value_of_a_named_secret_is_found_and_not_its_name() -> None:
    text = "export DB_PASSWORD=Tr0ub4dor&3 && run"
    (found,) = find_secrets(text)
    assert text[found.start : found.end] == "Tr0ub4dor&3"
