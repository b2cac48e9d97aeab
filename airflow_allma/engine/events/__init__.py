"""Messages that start runs: what a queue's message, a notification of S3 and an e-mail become."""

from __future__ import annotations

from airflow_allma.engine.events.queue_message import QueueMessage, recorded_message
from airflow_allma.engine.events.s3_notices import is_test_of_s3, s3_objects

__all__ = ["QueueMessage", "is_test_of_s3", "recorded_message", "s3_objects"]
