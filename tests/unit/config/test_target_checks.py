from __future__ import annotations

import pytest

from tenantgate.config import TenantsFileError, load_text
from tenantgate.config.model import Model

HEAD = "version: 1\ntenants:\n  - id: a\n    api_keys: ['${{ env \"DECK_A\" }}']\n    models:\n"
KEY = 'credential: "{vault://env/K}"'
OTHER = 'credential: "{vault://env/L}"'
OPENAI = f"{{provider: openai, model: gpt, {KEY}}}"
MOCK = "{provider: mock, model: m}"
LARGE = "{provider: mock, model: large}"


def load(*models: str) -> tuple[Model, ...]:
    return load_text(HEAD + "".join(f"      - {m}\n" for m in models)).tenants[0].models


def smart(targets: str = f"{MOCK}, {LARGE}", more: str = "") -> str:
    return f"{{name: smart, targets: [{targets}]{more and f', {more}'}}}"


@pytest.mark.parametrize(
    ("model", "where", "what"),
    [
        (f"{{targets: [{MOCK}]}}", ".name", "required with `targets`"),
        ("{name: smart}", ".targets", "required with `name`"),
        ("{provider: mock}", ".model", "required, or `name` and `targets`"),
        ("{name: smart, targets: []}", ".targets", "takes at least 1"),
        ("{name: smart, provider: mock, model: m}", ".name", "belongs to a model with `targets`"),
        (smart(more="provider: mock"), ".provider", "belongs to each of the `targets`"),
        (smart(more="temperature: 1"), ".temperature", "belongs to each of the `targets`"),
        (smart(more=KEY), ".credential", "belongs to each of the `targets`"),
        (smart(more="region: eu"), ".region", "belongs to each of the `targets`"),
        (smart("{provider: tenantgate, model: smart}"), ".targets[0].provider", "'tenantgate' is not one of"),
        (smart("{model: m}"), ".targets[0].provider", "required"),
        (smart("{provider: openai, model: m}"), ".targets[0].credential", "required for openai"),
        (smart(f"{{provider: mock, model: m, {KEY}}}"), ".targets[0].credential", "mock takes none"),
        (
            smart(f"{{provider: openai, model: m, {KEY}, credentials: ['{{vault://env/L}}']}}"),
            ".targets[0].credentials",
            "credential is given, too",
        ),
        (
            smart("{provider: openai, model: m, credentials: ['{vault://env/L}', '{vault://env/L}']}"),
            ".targets[0].credentials[1]",
            "is credentials[0] already",
        ),
        (
            smart("{provider: openai, model: m, credentials: [sk-1]}"),
            ".targets[0].credentials[0]",
            "plain value",
        ),
        (smart(f"{MOCK}, {LARGE}, {MOCK}"), ".targets[2]", "is targets[0] already"),
        (
            smart(f"{OPENAI}, {{provider: openai, model: gpt, max_tokens: 3, region: us, {KEY}}}"),
            ".targets[1]",
            "is targets[0] already",
        ),
        (smart("{provider: mock, model: m, weight: 0}"), ".targets[0].weight", "0 is outside 1 to 65535"),
        (smart("{provider: mock, model: m, region: EU}"), ".targets[0].region", "does not match"),
        (smart("{provider: mock, model: m, streaming: deny}"), ".targets[0].streaming", "unknown field"),
        (smart(more="balance: prority"), ".balance", "did you mean 'priority'?"),
        (
            smart(more="failover: {failover_criteria: [http_418]}"),
            ".failover.failover_criteria[0]",
            "is not one of",
        ),
        (
            smart(more="failover: {failover_criteria: [error, error]}"),
            ".failover.failover_criteria[1]",
            "failover_criteria[0] already",
        ),
        (smart(more="failover: {retries: 2}"), ".failover.retries", "2 retries, but only 1 more"),
        (smart(MOCK, "failover: {retries: 1}"), ".failover.retries", "1 retries, but no other target"),
        (
            "{provider: mock, model: m, failover: {failover_criteria: [error]}}",
            ".failover.failover_criteria",
            "no other target or credential",
        ),
        (
            smart(
                more="failover: {failover_criteria: [context_length]}",
                targets=f"{MOCK[:-1]}, context_window: 9}}, {LARGE}",
            ),
            ".targets[1].context_window",
            "required, since failover_criteria has context_length",
        ),
        (
            smart(more="balance: lowest-cost", targets=f"{MOCK[:-1]}, input_cost: 1}}"),
            ".targets[0]",
            "input_cost and output",
        ),
        (smart(more="hash_on_header: X-A"), ".hash_on_header", "isn't used with balance priority"),
        ("{provider: mock, model: m, balance: round-robin}", ".balance", "needs `targets`"),
        (
            smart(more="timeouts: {streaming: {ttft_s: 0}}"),
            ".timeouts.streaming.ttft_s",
            "0 is outside 1 to 3600",
        ),
    ],
)
def test_each_problem_of_targets_names_its_place(model: str, where: str, what: str) -> None:
    with pytest.raises(TenantsFileError) as caught:
        load(model)
    (problem,) = caught.value.problems
    assert problem.startswith(f"tenants.yaml:6: tenants[0].models[0]{where}: ")
    assert what in problem


@pytest.mark.parametrize(
    ("models", "where", "what"),
    [
        ((smart(), smart()), "[1].name", "'smart' is the name of models[0] already"),
        ((smart(), "{provider: mock, model: smart}"), "[0].name", "'smart' is the name of models[1] already"),
        (
            ("{provider: mock, model: x}", smart().replace("smart", "mock/x")),
            "[1].name",
            "is the name of models[0] with its provider already",
        ),
        (
            (smart(), "{provider: mock, model: x, aliases: [smart]}"),
            "[1].aliases[0]",
            "'smart' is the name of models[0]",
        ),
        (
            (smart(more="aliases: [best]"), "{provider: mock, model: x, aliases: [best]}"),
            "[1].aliases[0]",
            "'best' is models[0].aliases[0] already",
        ),
        (
            (smart(), "{provider: mock, model: x, aliases: [tenantgate/smart]}"),
            "[1].aliases[0]",
            "is the name of models[0] with its provider",
        ),
    ],
)
def test_a_name_of_ones_own_means_one_model(models: tuple[str, ...], where: str, what: str) -> None:
    with pytest.raises(TenantsFileError) as caught:
        load(*models)
    (problem,) = caught.value.problems
    assert f": tenants[0].models{where}: " in problem
    assert what in problem


@pytest.mark.parametrize(
    "model",
    [
        smart(),
        smart(MOCK),
        smart(more="failover: {retries: 1}"),
        smart(more="failover: {retries: 0, failover_criteria: []}"),
        # Another key at the same place, and the same key at another place.
        smart(f"{OPENAI}, {{provider: openai, model: gpt, {OTHER}}}"),
        smart(
            f"{OPENAI}, {{provider: openai, model: gpt, {KEY}, upstream_url: 'https://eu.api.openai.com/v1/x'}}"
        ),
        smart(
            "{provider: openai, model: m, credentials: ['{vault://env/L}', '{vault://env/M}']}",
            "failover: {retries: 1}",
        ),
        "{provider: openai, model: m, credentials: ['{vault://env/L}', '{vault://env/M}'], failover: {retries: 1}}",
        "{provider: mock, model: m, timeouts: {non_streaming: {total_s: 5}}}",
        smart(more="balance: consistent-hashing, hash_on_header: X-Session"),
        smart(more="balance: lowest-cost", targets=f"{MOCK[:-1]}, input_cost: 1, output_cost: 2}}"),
    ],
)
def test_what_holds_together_is_taken(model: str) -> None:
    assert len(load(model)) == 1
