"""All attacks: to import a category is to list its attacks."""

from attacks import (  # noqa: F401 - each lists its own
    execution,
    exhaustion,
    files,
    flooding,
    information,
    kernel_surface,
    lifetime,
    namespaces,
    network,
    processes,
    templates,
    writes,
)
from attacks.registry import ATTACKS

__all__ = ["ATTACKS", "NOT_STOPPED_YET"]

NOT_STOPPED_YET = frozenset(
    {
        "asks_how_the_kernel_is_scheduled",
        "fills_memory_with_the_tables_of_its_pages",
        "fills_the_disk",
        "finds_processes_by_their_numbers",
        "has_its_own_stack_grow",
        "holds_a_secret_by_its_path",
        "learns_how_full_the_disk_is",
        "learns_how_large_a_secret_is",
        "learns_that_a_secret_exists",
        "learns_the_name_of_the_machine",
        "learns_the_number_of_the_kernels_process",
        "learns_where_a_foreign_link_leads",
        "learns_who_runs_the_kernel",
        "leaves_folders_that_nobody_removes",
        "loads_a_library_that_it_wrote",
        "makes_files_without_end",
        "maps_a_file_that_it_wrote_to_run_it",
        "maps_one_file_twice_to_write_and_to_run",
        "sets_timers_without_end",
        "stands_in_a_foreign_folder",
        "starts_threads_without_end",
    }
)
"""Attacks that work in today's sandbox: it takes a root, processes, users and names of its own, or a cgroup."""
