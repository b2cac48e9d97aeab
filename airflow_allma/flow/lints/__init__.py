"""Lints: warnings about what is valid and probably not meant. Each module has those of one subject."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from airflow_allma.flow.diagnostics import Diagnostic
from airflow_allma.flow.lints import (
    call_settings,
    condition_lints,
    error_lints,
    foreign_names,
    fork_lints,
    loop_lints,
    no_effect,
    outputs,
    path_lints,
    setting_lints,
    unrendered,
    unset_names,
)
from airflow_allma.flow.lints.lint import FlowView, Lint

__all__ = ["LINTS", "FlowView", "check_lints"]

LINTS: Final[tuple[Lint, ...]] = (
    unset_names.unset_roots,
    unset_names.unset_targets,
    unset_names.unset_variables,
    unset_names.unset_payload,
    unset_names.start_point_names,
    unset_names.current_item_outside_of_branches,
    unset_names.names_inside_blocks,
    outputs.outputs_of_steps,
    outputs.output_sources,
    foreign_names.connections_and_variables,
    foreign_names.names_of_airflow,
    foreign_names.names_of_helpers,
    call_settings.timeouts,
    call_settings.urls,
    call_settings.headers,
    call_settings.certificate_checks,
    path_lints.negative_indexes,
    path_lints.indexes_by_word,
    path_lints.several_targets,
    path_lints.labels_of_the_context,
    path_lints.schemas_without_properties,
    unrendered.keys_without_values,
    unrendered.static_headers_with_expressions,
    unrendered.message_fields_with_expressions,
    unrendered.paths_inside_of_text,
    unrendered.text_after_a_path,
    unrendered.placeholders_of_urls,
    unrendered.single_braces,
    unrendered.names_that_begin_with_a_path,
    unrendered.unknown_data_variables,
    condition_lints.conditions_never_true,
    fork_lints.forks_without_branches,
    fork_lints.reader_options_without_effect,
    fork_lints.forks_without_items,
    fork_lints.branches_that_never_run,
    fork_lints.branches_that_continue,
    fork_lints.sums_of_objects,
    fork_lints.flows_as_branches,
    fork_lints.retries_of_forks,
    error_lints.unknown_errors,
    setting_lints.urls_as_buckets,
    setting_lints.limits_after_filters,
    setting_lints.unknown_parameters_of_models,
    loop_lints.loops_with_default_limit,
    loop_lints.loops_without_exit,
    no_effect.fields_without_effect,
    no_effect.start_points_in_branches,
    no_effect.checkpoints_in_branches,
    no_effect.mail_without_a_queue,
)
"""Every lint, in the order in which they run."""


def check_lints(view: FlowView) -> Iterator[Diagnostic]:
    """Yield the findings of all lints."""
    for lint in LINTS:
        if lint.concerns(view):
            yield from lint.find(view)
