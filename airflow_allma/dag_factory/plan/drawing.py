"""The tasks of a flow, drawn as text and as a Mermaid graph."""

from __future__ import annotations

from airflow_allma.dag_factory.plan.segments import GroupNode, TaskNode, TaskPlan, TaskRole

__all__ = ["draw_mermaid", "draw_text"]

_INDENT = "  "

_MAPPED_OVER = {TaskRole.CHUNK: "one for each chunk"}


def draw_text(plan: TaskPlan) -> str:
    """Return the tasks of a plan, one a line, indented by group, each with its steps and upstream tasks."""
    lines = [f"Dag {plan.dag_id} (flow {plan.flow_id}): {len(plan.tasks)} tasks"]
    shown: set[tuple[str, ...]] = set()
    groups = {group.path: group for group in plan.groups}
    for task in plan.tasks:
        for depth in range(1, len(task.groups) + 1):
            path = task.groups[:depth]
            if path not in shown:
                shown.add(path)
                lines.append(f"{_INDENT * depth}{_group_line(groups[path])}")
        lines.append(f"{_INDENT * (len(task.groups) + 1)}{_task_line(task)}")
    return "\n".join(lines) + "\n"


def _group_line(group: GroupNode) -> str:
    if group.branch is None:
        return f"[fork] {group.group_id}"
    return f"[branch, one for each item] {group.group_id}"


def _task_line(task: TaskNode) -> str:
    notes = [str(task.role)]
    if task.role in _MAPPED_OVER:
        notes.append(_MAPPED_OVER[task.role])
    if task.max_active is not None:
        notes.append(f"at most {task.max_active} at a time")
    line = f"{task.task_id} ({', '.join(notes)})"
    if task.role in {TaskRole.LOOP, TaskRole.BRANCH}:
        line += f" runs {', '.join(task.steps)}"
    if task.upstream:
        line += f" <- {', '.join(task.upstream)}"
    return line


def draw_mermaid(plan: TaskPlan) -> str:
    """Return the plan as a Mermaid flowchart: a box for each task, a frame for each group."""
    number = {task.task_id: f"t{index}" for index, task in enumerate(plan.tasks)}
    lines = ["flowchart LR"]
    lines += _mermaid_level(plan, (), number)
    lines += [
        f"{_INDENT}{number[earlier]} --> {number[task.task_id]}"
        for task in plan.tasks
        for earlier in task.upstream
    ]
    return "\n".join(lines) + "\n"


def _mermaid_level(plan: TaskPlan, path: tuple[str, ...], number: dict[str, str]) -> list[str]:
    indent = _INDENT * (len(path) + 1)
    lines = [
        f"{indent}{number[task.task_id]}{_mermaid_box(task)}" for task in plan.tasks if task.groups == path
    ]
    for index, group in enumerate(plan.groups):
        if group.path[:-1] != path:
            continue
        title = group.label if group.branch is None else f"{group.label} (one for each item)"
        lines.append(f"{indent}subgraph g{index} [{_quoted(title)}]")
        lines += _mermaid_level(plan, group.path, number)
        lines.append(f"{indent}end")
    return lines


def _mermaid_box(task: TaskNode) -> str:
    title = task.label
    if task.role in {TaskRole.LOOP, TaskRole.BRANCH}:
        title = f"{task.label}<br/>{' · '.join(task.steps)}"
    left, right = ("[[", "]]") if task.is_mapped else ("[", "]")
    return f"{left}{_quoted(title)}{right}"


def _quoted(title: str) -> str:
    return '"' + title.replace('"', "#quot;") + '"'
