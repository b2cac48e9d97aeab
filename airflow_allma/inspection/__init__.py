"""Answers about the items of a fork, from what its chunks stored: counts, pages, single items, downloads.

Nothing here imports Airflow. Pages in the API server and the command line both build on it: they say how the
chunks ended (``ForkView``), and get JSON objects for pages.
"""

from __future__ import annotations

from airflow_allma.inspection.fork_reader import ForkReader
from airflow_allma.inspection.fork_summary import fork_summary
from airflow_allma.inspection.fork_view import ChunkState, ForkView
from airflow_allma.inspection.item_details import item_detail, item_value
from airflow_allma.inspection.item_download import download
from airflow_allma.inspection.item_pages import ItemQuery, item_page
from airflow_allma.inspection.item_selections import selected_items

__all__ = [
    "ChunkState",
    "ForkReader",
    "ForkView",
    "ItemQuery",
    "download",
    "fork_summary",
    "item_detail",
    "item_page",
    "item_value",
    "selected_items",
]
