"""What commands read from the environment, in Airflow's forms: secrets, and what flows may name."""

from __future__ import annotations

import logging

from airflow_allma.cli.environment_settings import environment_setting
from airflow_allma.common.environment_secrets import EnvironmentSecrets
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.secrets import Secrets
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.settings import names_in

__all__ = ["allowed_notifiers", "allowed_secrets", "external_modules", "open_secrets"]


def allowed_secrets() -> AllowedSecrets:
    """Return what flows may name: ``AIRFLOW__ALLMA__ALLOWED_CONNECTIONS`` and the two like it."""
    return AllowedSecrets(
        names_in(environment_setting("allowed_connections")),
        names_in(environment_setting("allowed_variables")),
        names_in(environment_setting("allowed_queues")),
    )


def allowed_notifiers() -> tuple[str, ...]:
    """Return the patterns of notifiers that flows may name: ``AIRFLOW__ALLMA__NOTIFIERS``."""
    return names_in(environment_setting("notifiers"))


def external_modules() -> str:
    """Return ``AIRFLOW__ALLMA__EXTERNAL_MODULES``, the text of a JSON object."""
    return environment_setting("external_modules")


def open_secrets() -> Secrets:
    """Return the connections and Variables of the environment; their values are masked in all logs."""
    secrets = Secrets(EnvironmentSecrets())
    for handler in logging.getLogger().handlers:
        handler.addFilter(_MaskingFilter(secrets.masks))
    return secrets


class _MaskingFilter(logging.Filter):
    """Masks secrets in records; one with a traceback gets it as masked text."""

    def __init__(self, masks: SecretMasks) -> None:
        super().__init__()
        self._masks = masks

    def filter(self, record: logging.LogRecord) -> bool:
        if self._masks.longest:
            record.msg, record.args = self._masks.text(record.getMessage()), ()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            if record.exc_text:
                record.exc_text = self._masks.text(record.exc_text)
        return True
