"""The files of a folder as one configuration: what one file defines serves the flows of all."""

from __future__ import annotations

import pytest

from airflow_allma.flow.bundle import Bundle
from airflow_allma.flow.files import MAX_INHERITED_BYTES
from airflow_allma.loading import load_flow_files
from tests.support.artifact_files import (
    agent,
    connection,
    definition,
    flow_of,
    prompt,
    put,
    using,
    write_artifacts,
)
from tests.support.flow_files import write
from tests.support.folder_loads import PROD, flows, load, located, one_flow, shown, step


def test_twelve_artifacts_in_twelve_files_are_one_configuration(tmp_path):
    write_artifacts(tmp_path)
    loaded = load(tmp_path)
    assert shown(loaded) == []
    orders, report = loaded.flows
    assert orders.flow.steps["note"].literals["text"] == "none", "through two definitions"
    assert report.flow.steps["note"].literals["text"] == "report"
    assert orders.flow.flow_variables == {"team": "shop", "bucket": "orders-prod", "limit": 5}
    assert report.flow.flow_variables == {"team": "shop", "bucket": "shared-prod"}
    assert [one.id for one in orders.bundle.agents] == ["shop"]


def test_three_mistakes_in_three_files_are_each_in_the_right_file(tmp_path):
    broken = definition("price-it", inputMappings={"total": "$.picked[.total"})
    write_artifacts(
        tmp_path,
        price_it=broken,
        shop=agent("shop", "orders", "reports", team="shop"),
        title=prompt("title", "{{#if text}}{{text}}"),
    )
    loaded = load(tmp_path)
    assert located(loaded, tmp_path) == [
        ("orders.flow.json", "$.flows[0].steps.price.stepDefinitionId", '"stepDefinitionId": "price-it"'),
        ("price-it.step.json", "$.stepDefinitions[0].inputMappings.total", '"total": "$.picked[.total"'),
        ("shop.agent.json", "$.agents[0].flowIds[1]", '"reports"'),
        ("title.prompt.json", "$.promptTemplates[0].content", '"content": "{{#if text}}{{text}}",'),
    ]
    by_file = {name: message for name, _, _, message in shown(loaded)}
    assert f"in {tmp_path}/price-it.step.json:9:" in by_file["orders.flow.json"]
    assert f"(inherited at {tmp_path}/orders.flow.json:" in by_file["price-it.step.json"]
    assert "`reports` is not a known flow; did you mean `report`?" in by_file["shop.agent.json"]
    assert list(flows(loaded)) == ["report"], "only the flow that uses the broken definition does not run"
    write_artifacts(tmp_path)
    assert list(flows(load(tmp_path))) == ["orders", "report"]


def test_a_field_that_a_definition_has_wrong_for_many_flows_is_one_problem(tmp_path):
    put(tmp_path, "d.step.json", stepDefinitions=[definition("d", inputMappings={"a": "$.a["})])
    for number in range(5):
        put(tmp_path, f"{number}.flow.json", flows=[flow_of(f"f{number}", {"a": using("d")})])
    loaded = load(tmp_path)
    (problem,) = [problem for problem in loaded.problems if problem.file.endswith("d.step.json")]
    assert problem.message.endswith(f"(inherited at {tmp_path}/0.flow.json:9:14 and 4 more)")
    assert len(loaded.problems) == 6
    assert not loaded.flows


# step definitions


def test_an_unknown_definition_is_an_error_with_the_nearest_known_one(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": using("get-usr")})])
    put(tmp_path, "d.step.json", stepDefinitions=[definition("get-user")])
    (problem,) = load(tmp_path).problems
    assert (problem.path, problem.line) == ("$.flows[0].steps.a.stepDefinitionId", 10)
    assert problem.message == "`get-usr` is not a known step definition; did you mean `get-user`?"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"id": "d", "name": 5}, "step definition `d` has errors, in {folder}/d.step.json:1:"),
        ({"id": "d", "version": "two"}, "step definition `d` has errors, in {folder}/d.step.json:1:"),
        (
            {"id": "d", "isPublished": False},
            "no version of step definition `d` is published; set `isPublished`",
        ),
    ],
)
def test_a_broken_definition_stops_only_the_flows_that_name_it(tmp_path, written, message):
    one_flow(tmp_path)
    put(tmp_path, "other.flow.json", flows=[flow_of("other", {"a": {"stepType": "NO_OP"}})])
    write(tmp_path, "d.step.json", {"formatVersion": "1.0", "stepDefinitions": [written]})
    loaded = load(tmp_path)
    assert list(flows(loaded)) == ["other"]
    (error,) = [one for one in shown(loaded) if one[0] == "f.flow.json"]
    assert message.format(folder=tmp_path) in error[3]
    assert len([one for one in shown(loaded) if one[0] == "d.step.json"]) == (
        0 if "isPublished" in written else 1
    )


def test_a_definition_in_a_file_that_cannot_be_read_is_named(tmp_path):
    one_flow(tmp_path)
    write(tmp_path, "d.step.json", "{")
    loaded = load(tmp_path)
    assert not loaded.flows
    error = next(one for one in shown(loaded) if one[0] == "f.flow.json")
    assert (
        error[3]
        == f"`d` is not a known step definition; it may be in {tmp_path}/d.step.json, which cannot be read"
    )


@pytest.mark.parametrize(
    ("definitions", "circle"),
    [
        ({"d": "d"}, "`d` -> `d`"),
        ({"d": "e", "e": "d"}, "-> `d`"),
        ({"d": "x", "x": "y", "y": "x"}, "`y` -> `x` -> `y`"),
    ],
)
def test_a_definition_that_inherits_from_itself_is_an_error_in_its_file(tmp_path, definitions, circle):
    one_flow(tmp_path)
    put(tmp_path, "other.flow.json", flows=[flow_of("other", {"a": {"stepType": "NO_OP"}})])
    for own_id, base in definitions.items():
        put(tmp_path, f"{own_id}.step.json", stepDefinitions=[{"id": own_id, "stepDefinitionId": base}])
    loaded = load(tmp_path)
    assert list(flows(loaded)) == ["other"]
    messages = [message for _, _, _, message in shown(loaded)]
    assert any("cannot inherit from themselves" in message and circle in message for message in messages)
    assert {name for name, *_ in shown(loaded)} == {
        "f.flow.json",
        *(f"{name}.step.json" for name in definitions),
    }


def fork_of(definition_id):
    own = {"x": using(definition_id)}
    return {
        "stepType": "PARALLEL_FORK_MANAGER", "itemsPath": "$.items",
        "parallelBranches": [{"branchId": "b", "stepInstanceId": "x", "steps": own}],
    }  # fmt: skip


def test_a_branch_of_a_definition_can_inherit_too_but_not_from_the_definition_itself(tmp_path):
    one_flow(tmp_path)
    put(tmp_path, "d.step.json", stepDefinitions=[{"id": "d", **fork_of("e")}, definition("e")])
    branch = flows(load(tmp_path))["f"].steps["a"].parallel_branches[0]
    assert branch.steps["x"].module_identifier == "system/compose-object-from-input"
    put(tmp_path, "d.step.json", stepDefinitions=[{"id": "d", **fork_of("d")}])
    assert any("`d` -> `d`" in message for *_, message in shown(load(tmp_path)))


@pytest.mark.parametrize(
    ("depth", "message"), [(13, "a flow can have at most 2000 steps"), (18, "inherit more than 16 MiB")]
)
def test_definitions_that_multiply_are_refused_in_bounded_time(tmp_path, depth, message):
    def doubled(number):
        steps = {name: using(f"d{number + 1}") for name in ("x", "y")}
        own = {"branchId": "b", "stepInstanceId": "x", "steps": steps}
        return {"id": f"d{number}", "stepType": "PARALLEL_FORK_MANAGER", "parallelBranches": [own]}

    put(tmp_path, "d.step.json", stepDefinitions=[*map(doubled, range(depth)), definition(f"d{depth}")])
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": using("d0")})])
    assert any(message in found for *_, found in shown(load(tmp_path)))


@pytest.mark.parametrize("of_agent", [True, False])
def test_what_the_flows_of_a_file_inherit_has_a_limit(tmp_path, of_agent):
    large = {"x": "x" * 1_000_000}
    count = 2 + MAX_INHERITED_BYTES // 1_000_000
    names = [f"f{number:03}" for number in range(count)]
    used = {"stepType": "NO_OP"} if of_agent else using("d")
    put(tmp_path, "f.flow.json", flows=[flow_of(name, {"a": used}) for name in names])
    put(tmp_path, "g.flow.json", flows=[flow_of("g", {"a": using("d")})])
    put(tmp_path, "d.step.json", stepDefinitions=[definition("d", literals=large)])
    if of_agent:
        put(tmp_path, "a.agent.json", agents=[agent("a", *names, **large)])
    loaded = load(tmp_path)
    errors = [one for one in shown(loaded) if one[1] == "error"]
    assert {name for name, *_ in errors} == {"f.flow.json"}
    assert all("inherit more than 16 MiB" in message for *_, message in errors)
    assert 0 < len(errors) < 5
    assert "g" in flows(loaded)


def test_a_chain_of_definitions_has_a_limit(tmp_path):
    def chain(length):
        links = [{"id": f"d{n}", "stepDefinitionId": f"d{n + 1}"} for n in range(length - 1)]
        put(tmp_path, "d.step.json", stepDefinitions=[*links, definition(f"d{length - 1}")])
        put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": using("d0")})])
        return load(tmp_path)

    assert list(flows(chain(20))) == ["f"]
    for length in (21, 1500):
        loaded = chain(length)
        assert not loaded.flows
        assert any("more than 20 step definitions" in message for *_, message in shown(loaded))


# versions


def test_the_published_version_with_the_highest_number_counts(tmp_path):
    one_flow(tmp_path)
    for version, published in ((1, True), (10, True), (11, False), (9, True)):
        put(
            tmp_path,
            f"v{version}.step.json",
            stepDefinitions=[
                definition("d", version=version, isPublished=published, literals={"v": str(version)})
            ],
        )
    loaded = load(tmp_path)
    assert shown(loaded) == []
    assert flows(loaded)["f"].steps["a"].literals == {"v": "10"}


ARTIFACTS = {
    "stepDefinitions": (definition("d"), definition("d", literals={"x": 1})),
    "promptTemplates": (prompt("d"), prompt("d", "other")),
    "mcpConnections": (connection("d"), connection("d", serverUrl="https://other.test")),
    "agents": (agent("d", "f"), agent("d", "f", x=1)),
}


@pytest.mark.parametrize("kind", ARTIFACTS)
def test_the_same_artifact_twice_is_fine_and_a_different_one_an_error_in_the_later_file(tmp_path, kind):
    first, other = ARTIFACTS[kind]
    one_flow(tmp_path)
    if kind != "stepDefinitions":
        put(tmp_path, "d.step.json", stepDefinitions=[definition("d")])
    put(tmp_path, "1.json", **{kind: [first]})
    put(tmp_path, "2.json", **{kind: [first | {"updatedAt": "2026-01-01T00:00:00.000Z"}]})
    assert shown(load(tmp_path)) == []
    put(tmp_path, "2.json", **{kind: [other]})
    loaded = load(tmp_path)
    (problem,) = shown(loaded)
    assert problem[:3] == ("2.json", "error", f"$.{kind}[0]")
    assert f"`d` is already defined in {tmp_path}/1.json:" in problem[3]
    assert list(flows(loaded)) == ["f"], "the first counts"


# references


REFERENCES = {
    "promptTemplateId": (
        step("LLM_INVOCATION", llmProvider="OPENAI", modelId="m", promptTemplateId="none"),
        "error", "`none` is not a known prompt; did you mean `nine`?",
    ),
    "mcpConnectionId": (
        step("MCP_CALL", mcpConnectionId="none", toolName="t"),
        "error", "`none` is not a known MCP connection; did you mean `nine`?",
    ),
    "subFlowDefinitionId": (
        step("START_SUB_FLOW", subFlowDefinitionId="none"),
        "error", "`none` is not a known flow; did you mean `nine`?",
    ),
    "flowDefinitionId": (
        step("START_FLOW_EXECUTION", flowDefinitionId="none"),
        "warning", "`none` is not a known flow; did you mean `nine`?",
    ),
    "customConfig.flowDefinitionId": (
        step("START_FLOW_EXECUTION", customConfig={"flowDefinitionId": "none"}),
        "warning", "`none` is not a known flow; did you mean `nine`?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("field", REFERENCES)
def test_an_id_that_nobody_defines_is_located_with_the_nearest_known_one(tmp_path, field):
    written, severity, message = REFERENCES[field]
    put(
        tmp_path,
        "known.json",
        promptTemplates=[prompt("nine")],
        mcpConnections=[connection("nine")],
        flows=[flow_of("nine", {"a": {"stepType": "NO_OP"}})],
    )
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": written})])
    assert ("f.flow.json", severity, f"$.flows[0].steps.a.{field}", message) in shown(load(tmp_path))
    last = field.rpartition(".")[2]
    for right in ("nine", "{{x}}", "$.x"):
        fixed = {**written, last: right} if last in written else {**written, "customConfig": {last: right}}
        put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": fixed})])
        assert not [one for one in shown(load(tmp_path)) if "is not a known" in one[3]]


def test_a_sub_flow_of_a_branch_is_looked_up_too(tmp_path):
    branch = {"branchId": "b", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "ff"}
    fork = step("PARALLEL_FORK_MANAGER", itemsPath="$.items", parallelBranches=[branch])
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": fork})])
    path = "$.flows[0].steps.a.parallelBranches[0].subFlowDefinitionId"
    assert (path, "error") in [(path, severity) for _, severity, path, _ in shown(load(tmp_path))]


def test_a_prompt_with_errors_or_without_a_published_version_is_named_where_it_is_used(tmp_path):
    used = step("LLM_INVOCATION", llmProvider="OPENAI", modelId="m", promptTemplateId="p")
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": used})])
    put(tmp_path, "p.prompt.json", promptTemplates=[prompt("p", "{{#if a}}")])
    assert any("prompt `p` has errors, in" in message for *_, message in shown(load(tmp_path)))
    put(tmp_path, "p.prompt.json", promptTemplates=[prompt("p", isPublished=False)])
    assert any("no version of prompt `p` is published" in message for *_, message in shown(load(tmp_path)))
    write(tmp_path, "p.prompt.json", prompt("p"))
    assert not [message for *_, message in shown(load(tmp_path)) if "prompt" in message.lower()]


# files that are named


def test_a_file_alone_is_checked_with_its_own_folder(tmp_path):
    write_artifacts(tmp_path)
    loaded = load_flow_files([tmp_path / "orders.flow.json"], deploy=PROD)
    assert shown(loaded) == []
    assert [loaded.file for loaded in loaded.files] == [str(tmp_path / "orders.flow.json")]
    assert flows(loaded)["orders"].flow_variables["team"] == "shop"


def test_what_a_file_defines_itself_wins_over_the_other_files_of_its_folder(tmp_path):
    for number in (1, 2):
        put(
            tmp_path,
            f"{number}.json",
            flows=[flow_of("f", {"a": {"stepType": "NO_OP"}})],
            agents=[agent("a", "f", enabled=number == 2, number=number)],
        )
    loaded = load_flow_files([tmp_path / "2.json"])
    assert shown(loaded) == []
    assert flows(loaded)["f"].flow_variables == {"number": 2}


def test_a_flow_without_references_uses_nothing(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}})])
    put(tmp_path, "p.prompt.json", promptTemplates=[prompt("p")])
    loaded = load(tmp_path)
    assert loaded.flows[0].bundle == Bundle()
    assert [one.bundle.prompts[0].id for one in loaded.files if one.bundle.prompts] == ["p"]


def test_a_thousand_files_that_use_each_other_load(tmp_path):
    for number in range(500):
        put(tmp_path, f"{number}.flow.json", flows=[flow_of(f"f{number}", {"a": using(f"d{number}")})])
        put(tmp_path, f"{number}.step.json", stepDefinitions=[definition(f"d{number}")])
    loaded = load(tmp_path)
    assert (len(loaded.files), len(loaded.flows), loaded.problems) == (1000, 500, ())


def test_a_misspelled_field_of_an_agent_is_a_warning(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepType": "NO_OP"}})])
    misspelled = agent("a", "f") | {"flowVariable": {"x": 1}, "createdBy": "me"}
    del misspelled["flowVariables"]
    put(tmp_path, "a.agent.json", agents=[misspelled])
    (problem,) = shown(load(tmp_path))
    assert problem[:3] == ("a.agent.json", "warning", "$.agents[0].flowVariable")
    assert "did you mean `flowVariables`?" in problem[3]


def test_a_module_is_not_the_id_of_its_step_definition(tmp_path):
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": {"stepDefinitionId": "system/noop"}})])
    assert "did you mean `system-noop`?" in shown(load(tmp_path))[0][3]


def test_the_version_of_a_format_is_a_string(tmp_path):
    (tmp_path / "f.json").write_text('{"formatVersion": 1.0, "flows": []}')
    assert 'must be "1.0", in double quotes' in shown(load(tmp_path))[0][3]
