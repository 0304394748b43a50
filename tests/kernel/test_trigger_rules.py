"""What ``[[triggers]]`` in swap.toml may say; what is wrong is named by file, trigger and key."""

import pytest

from byenatos_kernel.swap_policy import SwapPolicyError, read_swap_policy
from byenatos_kernel.trigger_rules import MEASURES

SLOW = 'name = "slow"\nkind = "performance"\nmodel = "small"\nmeasure = "p95_latency_s"\n'
NIGHT = 'name = "night"\nkind = "schedule"\nmodel = "small"\ncron = "0 22 * * *"\n'
WORK = 'name = "work"\nkind = "workload"\nmodel = "small"\n'


def read(tmp_path, *triggers):
    path = tmp_path / "swap.toml"
    path.write_text("".join(f"[[triggers]]\n{trigger}" for trigger in triggers))
    return read_swap_policy(path)


def test_a_trigger_of_each_kind_is_read_with_its_defaults(tmp_path):
    policy = read(tmp_path, f"{SLOW}above = 8\n", f'{NIGHT}timezone = "Europe/Berlin"\n')
    slow, night = policy.triggers
    assert (slow.slot, slow.bound, slow.cleared_at, slow.cooldown_s, slow.dry_run) == ("default", 8, 8, 300, False)
    assert (night.bound, night.cleared_at) == (None, None)


@pytest.mark.parametrize(("kind", "measure"), [(kind, one) for kind in MEASURES for one in MEASURES[kind]])
def test_every_measure_is_known_at_its_kind_and_at_no_other(tmp_path, kind, measure):
    task = 'task = "code"\n' if measure == "task_share" else ""
    rest = f'model = "m"\nmeasure = "{measure}"\nabove = 0.5\nclear = 0.25\n{task}'
    (trigger,) = read(tmp_path, f'name = "t"\nkind = "{kind}"\n{rest}').triggers
    assert (trigger.bound, trigger.cleared_at) == (0.5, 0.25)
    other = "error" if kind != "error" else "resource"
    with pytest.raises(SwapPolicyError, match=f"measure: expected one of .* found '{measure}'"):
        read(tmp_path, f'name = "t"\nkind = "{other}"\n{rest}')


@pytest.mark.parametrize(
    ("trigger", "named"),
    [
        (SLOW, "above, below: expected one of them, found neither"),
        (f"{SLOW}above = 8\nbelow = 1\n", "above, below: expected one of them, found both"),
        (f"{SLOW}above = nan\n", "above: expected a finite number"),
        (f"{SLOW}above = 8\nclear = 9\n", "clear: expected at most above = 8, found 9"),
        (f"{SLOW}below = 8\nclear = 7\n", "clear: expected at least below = 8, found 7"),
        (f'{SLOW}above = 8\nreturn_to = "small"\n', "return_to: expected another model"),
        (f'{SLOW}above = 8\ncron = "* * * * *"\n', "cron: expected nothing at a trigger of kind 'performance'"),
        (f'{SLOW}above = 8\ntask = "code"\n', "task: expected one at measure 'task_share' and only there"),
        (f'{WORK}measure = "task_share"\nabove = 0.5\n', "task: expected one at measure 'task_share'"),
        (f"{WORK}above = 0.5\n", "measure: expected one of queue_depth, running"),
        (f"{NIGHT}above = 1\n", "above: expected nothing at a schedule, found 1"),
        (f'{NIGHT}return_to = "big"\n', "return_to: expected nothing at a schedule, found 'big'"),
        (f'{NIGHT}timezone = "Berlin/Europe"\n', "timezone: expected a name such as 'Europe/Berlin'"),
        (NIGHT.replace("22", "24"), "cron: expected a cron line, found '0 24 [*] [*] [*]': Bad hour"),
        ('name = "night"\nkind = "schedule"\nmodel = "small"\n', "cron: expected five fields"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_trigger_and_key(tmp_path, trigger, named):
    name = trigger.split('"')[1]
    with pytest.raises(SwapPolicyError, match=f"swap.toml: trigger '{name}': {named}"):
        read(tmp_path, trigger)


def test_two_triggers_of_one_name_are_refused(tmp_path):
    with pytest.raises(SwapPolicyError, match="expected each name once, found 'night' twice"):
        read(tmp_path, NIGHT, NIGHT)


def test_an_unknown_key_and_an_unknown_kind_are_refused(tmp_path):
    with pytest.raises(SwapPolicyError, match=r"swap.toml: .*`cooldown`"):
        read(tmp_path, f"{SLOW}above = 8\ncooldown = 5\n")
    with pytest.raises(SwapPolicyError, match=r"swap.toml: .*`\$.triggers\[0\].kind`"):
        read(tmp_path, SLOW.replace("performance", "mood"))
