from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.config import TenantsFileError, load, load_text
from tenantgate.errors import ConfigError


def tenant(name: str, *, key: str = "", rest: str = "") -> str:
    return f"{{id: {name}, api_keys: ['${{{{ env \"DECK_{key or name.upper()}\" }}}}']{rest}}}"


def folder(path: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (path / f"{name}.yaml").write_text(f"version: 1\n{text}\n")
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(TenantsFileError) as caught:
        load(path)
    return [problem.replace(f"{path}/", "") for problem in caught.value.problems]


def test_the_files_of_a_folder_are_one_whole(tmp_path: Path) -> None:
    shared = "gateway: {path_prefix: /llm}\ndefaults: {cache: {cache_ttl: 60}}"
    two = f"tenants: [{tenant('b')}, {tenant('c')}]"
    folder(tmp_path, a=f"tenant: {tenant('a')}", m=two, z=shared)
    whole = load_text(f"version: 1\n{shared}\ntenants: [{tenant('a')}, {tenant('b')}, {tenant('c')}]")
    assert load(tmp_path) == whole


def test_a_file_and_the_folder_beside_it_are_one_whole(tmp_path: Path) -> None:
    (tmp_path / "tenants.d").mkdir()
    folder(tmp_path / "tenants.d", a=f"tenant: {tenant('a')}")
    folder(tmp_path, tenants="defaults: {cache: {}}")
    (only,) = load(tmp_path / "tenants.yaml").tenants
    assert only.id == "a"


def test_a_file_may_have_a_list_and_one_more(tmp_path: Path) -> None:
    folder(tmp_path, a=f"tenants: [{tenant('b')}]\ntenant: {tenant('a')}")
    assert [t.id for t in load(tmp_path).tenants] == ["b", "a"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            {"a": "gateway: {}\ndefaults: {}", "b": f"\ngateway: {{}}\ntenant: {tenant('b')}"},
            ["b.yaml:3: gateway: is gateway in a.yaml:2 already; it is for all files"],
        ),
        (
            {"a": f"tenant: {tenant('x')}", "b": f"tenants:\n- {tenant('y')}\n- {tenant('x', key='Z')}"},
            ["b.yaml:4: tenants[1].id: 'x' is the id of tenant in a.yaml:2 already"],
        ),
        (
            {"a": f"tenants: [{tenant('x')}]", "b": f"tenant:\n  {tenant('y', key='X')}"},
            [
                (
                    "b.yaml:3: tenant.api_keys[0]: DECK_X is tenants[0].api_keys[0] in a.yaml:2 already; each key "
                    "belongs to one tenant"
                )
            ],
        ),
        (
            {"a": "defaults: {cache: {}}", "b": "gateway: {}"},
            ["FOLDER: tenants: required: Tenants, each with its own keys, models and limits."],
        ),
        (
            {"a": f"tenant: {tenant('a')}\nzzz: 1", "b": "tenant: {id: a/b}", "c": "a: ["},
            [
                "a.yaml:3: zzz: unknown field; known are version, gateway, defaults, tenants, tenant",
                "b.yaml:2: tenant.id: 'a/b' does not match ^[A-Za-z0-9][A-Za-z0-9._-]*$",
                "c.yaml:3: isn't YAML: expected the node content, but found '<stream end>'",
            ],
        ),
        (
            {
                "a": f"tenant: {tenant('a')}",
                "b": f"tenant: {tenant('b')}",
                "c": "\n\ndefaults:\n  compression:\n    pruner: llmlingua",
            },
            ["c.yaml:5: defaults.compression: pruner_model: required for pruner llmlingua"],
        ),
        (
            {
                "a": "defaults: {compression: {pruner: llmlingua, pruner_model: m}}",
                "b": "tenant:\n  "
                + tenant(
                    "b",
                    rest=", compression: {compression_ranges: [{min_tokens: 2, max_tokens: 2, value: 1}]}",
                ),
            },
            [
                (
                    "b.yaml:3: tenant.compression: compression_ranges[0].max_tokens: 2 is not above min_tokens (beside "
                    "what tenant.models[0] has of compression from elsewhere)"
                )
            ],
        ),
        (
            {
                "a": f"tenant: {tenant('a')}",
                "b": "gateway:\n  rate_limiting:\n    policy: local\n    redis: {host: a}",
            },
            ["b.yaml:5: gateway.rate_limiting.redis: isn't used with policy local; give one of the two"],
        ),
    ],
)
def test_problems_name_the_right_file_and_line(
    tmp_path: Path, texts: dict[str, str], expected: list[str]
) -> None:
    found = problems(folder(tmp_path, **texts))
    assert [problem.replace(str(tmp_path), "FOLDER") for problem in found] == expected


def test_each_file_says_its_version(tmp_path: Path) -> None:
    folder(tmp_path, a=f"tenant: {tenant('a')}")
    (tmp_path / "b.yaml").write_text(f"tenant: {tenant('b')}")
    (tmp_path / "c.yaml").write_text("")
    assert problems(tmp_path) == [
        "b.yaml:1: version: required: Version of this format: 1.",
        "c.yaml:1: is empty; it needs version, and tenants",
    ]


def test_a_file_that_can_not_be_read_is_a_problem_beside_the_others(tmp_path: Path) -> None:
    folder(tmp_path, a="tenant: {id: a/b}")
    (tmp_path / "b.yaml").symlink_to("/etc/hostname")
    first, second = problems(tmp_path)
    assert first.startswith("a.yaml:2: tenant.id: ")
    assert second.startswith("b.yaml: is a link to a file outside")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no"):
        load(tmp_path)


MODELS = "      - {provider: openai, model: gpt, credential: '{vault://env/A}'ALIASES}\n"


@pytest.mark.parametrize(
    ("aliases", "others", "line", "problem"),
    [
        (
            "[gpt]",
            "",
            6,
            "models[0].aliases[0]: 'gpt' is the name of models[0] already; a name means one model",
        ),
        ("[fast, fast]", "", 6, "models[0].aliases[1]: 'fast' is models[0].aliases[0] already"),
        (
            "[small]",
            "{provider: mock, model: small}",
            6,
            "models[0].aliases[0]: 'small' is the name of models[1]",
        ),
        (
            "[mock/small]",
            "{provider: mock, model: small}",
            6,
            "models[0].aliases[0]: 'mock/small' is the name of models[1] with its provider already",
        ),
        (
            "[fast]",
            "{provider: mock, model: small, aliases: [fast]}",
            7,
            "models[1].aliases[0]: 'fast' is models[0].aliases[0] already",
        ),
        ("[a b]", "", 6, "models[0].aliases[0]: 'a b' does not match"),
        (f"[{'x' * 129}]", "", 6, "models[0].aliases[0]: 129 characters, takes at most 128"),
        ("[1]", "", 6, "models[0].aliases[0]: must be a text"),
    ],
)
def test_a_name_means_one_model(aliases: str, others: str, line: int, problem: str) -> None:
    text = "version: 1\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n    models:\n"
    text += MODELS.replace("ALIASES", f", aliases: {aliases}") + (f"      - {others}\n" if others else "")
    with pytest.raises(TenantsFileError) as caught:
        load_text(text)
    (found,) = caught.value.problems
    assert found.startswith(f"tenants.yaml:{line}: tenants[0].{problem}")


def test_tenants_may_use_the_same_aliases() -> None:
    models = ", models: [{provider: mock, model: m, aliases: [fast, smart/one]}]"
    found = load_text(f"version: 1\ntenants: [{tenant('a', rest=models)}, {tenant('b', rest=models)}]")
    assert [t.models[0].aliases for t in found.tenants] == [("fast", "smart/one")] * 2
