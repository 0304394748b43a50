from hypothesis import given, settings
from hypothesis import strategies as st

from byenatos_sdk.protocol.versions import FEATURES, MAJORS, negotiate

SETS = st.frozensets(st.integers(1, 9)), st.frozensets(st.text(max_size=3))


def test_this_build_agrees_with_itself():
    assert negotiate(MAJORS, FEATURES) == (1, ("moved", "pause", "triggers"))


def test_without_a_common_major_there_is_nothing_to_speak():
    assert negotiate((2,), FEATURES, own_majors=(1,)) is None


def test_unknown_features_are_left_out():
    assert negotiate((1, 2), ("pause", "telepathy"), own_majors=(1,)) == (1, ("pause",))


@settings(deadline=None)
@given(*SETS, *SETS)
def test_both_ends_come_to_the_same_agreement(majors, features, other_majors, other_features):
    here = negotiate(majors, features, own_majors=other_majors, own_features=other_features)
    there = negotiate(other_majors, other_features, own_majors=majors, own_features=features)
    assert here == there
    assert (here is None) == (not majors & other_majors)
