"""How long a regular expression can take, found without running it.

Python's engine backtracks. Where a pattern can match the same text in several ways, a text that does not
match makes it try all of them: ``^(a+)+$`` takes 2**n steps for n characters. The pattern becomes an
automaton with one state for each character that it names. Two ways through one loop mean exponential time;
loops that follow each other and accept the same text mean a power of the length.

The analysis is conservative: it can call a harmless pattern expensive, but not the other way round.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from airflow_allma.flow.regex_automaton import Automaton, TooComplexError, operations, parse_pattern

__all__ = ["MAX_DEGREE", "MAX_PATTERN_LENGTH", "pattern_degree", "pattern_problem"]

MAX_PATTERN_LENGTH: Final = 1_000
"""Maximum length of a pattern of a flow, in characters."""

MAX_DEGREE: Final = 3
"""Largest accepted power of the length of the text that a match can take."""

_MAX_PAIRS: Final = 20_000
_MAX_OPTIONAL: Final = 20
"""Each optional part can double the time, even without a loop."""


def pattern_problem(pattern: str, translate: Callable[[str], str] = str) -> str | None:
    """Return why a pattern of a flow is refused and how to fix it; None if it is fine.

    Args:
        pattern: the pattern as the flow has it.
        translate: returns the pattern in Python's dialect.

    Raises:
        Exception: what ``translate`` raises.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        return (
            f"a pattern can have at most {MAX_PATTERN_LENGTH} characters, and this one has {len(pattern)}; "
            "use an `enum`, or several properties"
        )
    translated = translate(pattern)
    try:
        degree = pattern_degree(translated)
    except (re.error, RecursionError, OverflowError) as error:
        # A position in the translated pattern would be a wrong one.
        reason = error.msg if isinstance(error, re.error) and translated != pattern else error
        return f"not a regular expression that Python can read: {reason}"
    except TooComplexError as error:
        return f"this pattern can take too long: {error}"
    if degree is None:
        return (
            "this pattern can take exponential time, as a loop can match the same text in several ways; "
            "write nested repeats such as `(a+)+` as one"
        )
    if degree > MAX_DEGREE:
        return (
            f"this pattern can take time that grows with the length of the text to the power of {degree}; "
            "begin it with `^`, and put a character between repeats that neither of them matches"
        )
    return None


@lru_cache(maxsize=1024)
def pattern_degree(pattern: str) -> int | None:
    """Return the power of the text's length that a search can take; None for exponential time.

    Raises:
        re.error: the pattern is not valid.
        RecursionError: it is nested too deeply.
        OverflowError: a repeat is too large.
    """
    tree = parse_pattern(pattern)
    return _degree(Automaton(tree), is_anchored=_is_anchored(tree), can_fail_at_end=_can_fail_at_end(tree))


def _is_anchored(tree: Any) -> bool:
    """Return whether a pattern matches only at the beginning of a string."""
    return bool(len(tree)) and str(tree[0][1]) in {"AT_BEGINNING", "AT_BEGINNING_STRING"}


def _can_fail_at_end(tree: Any) -> bool:
    """Return whether a match can fail after its last character: at an end of the text, or a lookaround."""
    return any(str(op) in {"AT", "ASSERT", "ASSERT_NOT"} for op, _ in list(operations(tree))[1:])


def _degree(automaton: Automaton, *, is_anchored: bool, can_fail_at_end: bool) -> int | None:
    if automaton.is_ambiguous:
        return None
    loops = _loops(automaton.follow)
    for loop in loops:
        if _has_two_ways(automaton, loop):
            return None
    if automaton.optional > _MAX_OPTIONAL and not _is_deterministic(automaton):
        raise TooComplexError(f"it has more than {_MAX_OPTIONAL} optional parts or alternatives; use fewer")
    # A loop at the end has matched as soon as it is reached, and is never tried in another way.
    last = frozenset(() if can_fail_at_end else automaton.whole.last)
    counted = [loop for loop in loops if last.isdisjoint(loop)]
    longest = _longest_chain(automaton, counted)
    return max(1, longest + (0 if is_anchored or not counted else 1))


def _is_deterministic(automaton: Automaton) -> bool:
    """Return whether the next character always decides how a match goes on."""
    return all(
        _are_disjoint(automaton.accepts[state] for state in following)
        for following in (automaton.whole.first, *(tuple(counter.elements()) for counter in automaton.follow))
    )


def _are_disjoint(sets: Iterable[frozenset[str]]) -> bool:
    seen: set[str] = set()
    for one in sets:
        if not seen.isdisjoint(one):
            return False
        seen |= one
    return True


def _loops(follow: Sequence[Counter[int]]) -> list[frozenset[int]]:
    """Return the sets of states that can all reach each other, in the order in which a match reaches them."""
    return [
        frozenset(component)
        for component in reversed(_components({state: tuple(after) for state, after in enumerate(follow)}))
        if len(component) > 1 or component[0] in follow[component[0]]
    ]


def _has_two_ways(automaton: Automaton, loop: frozenset[int]) -> bool:
    """Return whether two ways through a loop, from one state back to it, accept the same text."""
    follow = {state: [other for other in automaton.follow[state] if other in loop] for state in loop}
    if any(automaton.follow[state][other] > 1 for state in loop for other in follow[state]):
        return True
    pairs: dict[Any, tuple[Any, ...]] = {}
    waiting = [(state, state) for state in loop]
    while waiting:
        pair = waiting.pop()
        if pair in pairs:
            continue
        if len(pairs) > _MAX_PAIRS:
            raise TooComplexError("its loops have too many alternatives; use fewer")
        pairs[pair] = tuple(
            (left, right)
            for left in follow[pair[0]]
            for right in follow[pair[1]]
            if not automaton.accepts[left].isdisjoint(automaton.accepts[right])
        )
        waiting.extend(pairs[pair])
    return any(
        any(left == right for left, right in component) and any(left != right for left, right in component)
        for component in _components(pairs)
        if len(component) > 1
    )


def _longest_chain(automaton: Automaton, loops: Sequence[frozenset[int]]) -> int:
    """Return the largest number of loops one after the other that can share a text."""
    lengths: list[int] = []
    for index, loop in enumerate(loops):
        before = [lengths[other] for other in range(index) if _can_share(automaton, loops[other], loop)]
        lengths.append(1 + max(before, default=0))
    return max(lengths, default=0)


def _can_share(automaton: Automaton, first: frozenset[int], second: frozenset[int]) -> bool:
    """Return whether a text that the first loop accepts can also lead into the second one."""
    accepted = frozenset[str]().union(*(automaton.accepts[state] for state in first))
    seen = set(first)
    waiting = list(first)
    while waiting:
        for state in automaton.follow[waiting.pop()]:
            if state in seen or accepted.isdisjoint(automaton.accepts[state]):
                continue
            if state in second:
                return True
            seen.add(state)
            waiting.append(state)
    return False


def _components(graph: Mapping[Any, tuple[Any, ...]]) -> list[list[Any]]:
    """Return the strongly connected components of a graph, each after those that it leads to (Tarjan)."""
    index: dict[Any, int] = {}
    lowest: dict[Any, int] = {}
    stack: list[Any] = []
    on_stack: set[Any] = set()
    found: list[list[Any]] = []
    for root, after in graph.items():
        work = [(root, iter(after))] if root not in index else []
        if work:
            index[root] = lowest[root] = len(index)
            stack.append(root)
            on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = lowest[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(graph[target])))
                    break
                if target in on_stack:
                    lowest[node] = min(lowest[node], index[target])
            else:
                work.pop()
                if work:
                    lowest[work[-1][0]] = min(lowest[work[-1][0]], lowest[node])
                if lowest[node] == index[node]:
                    component: list[Any] = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    found.append(component)
    return found
