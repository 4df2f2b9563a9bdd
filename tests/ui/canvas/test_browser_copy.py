"""The account of what a browser holds: nothing travels twice, and what got lost travels again."""

import pytest

from ui.canvas.browser_copy import BrowserCopy

EPOCH = "run#1|capitals"


@pytest.fixture
def browser() -> BrowserCopy:
    """A browser that was sent three snapshots with their values and two of the control, in one message."""
    copy = BrowserCopy()
    copy.restart(EPOCH)
    copy.sent(3, 2, [0, 1, 2])
    return copy


def held(copy: BrowserCopy) -> tuple[int, int]:
    return copy.n_frames, copy.n_control


def test_what_was_sent_counts_as_received(browser: BrowserCopy):
    assert browser.read_request("", EPOCH) == []
    assert held(browser) == (3, 2)


def test_messages_with_content_are_numbered_and_others_repeat_the_last_number(browser: BrowserCopy):
    assert browser.next_number(3, 2, []) == 1
    assert browser.next_number(4, 2, []) == browser.next_number(3, 3, []) == browser.next_number(3, 2, [0]) == 2
    browser.sent(3, 2, [])
    assert browser.next_number(4, 2, [3]) == 2


def test_another_view_is_sent_from_the_beginning(browser: BrowserCopy):
    assert browser.read_request("", "another run") == []
    assert held(browser) == (0, 0)


def test_what_the_browser_says_it_holds_after_a_loss_is_where_the_next_message_starts(browser: BrowserCopy):
    browser.sent(5, 2, [3, 4])
    assert browser.read_request(f"{EPOCH}#2|3,2|", EPOCH) == []
    assert held(browser) == (3, 2)
    browser.sent(5, 2, [3, 4])
    assert browser.read_request(f"{EPOCH}#2|3,2|", EPOCH) == []  # it still stands there in the next rerun
    assert held(browser) == (5, 2)
    browser.read_request(f"{EPOCH}#3|3,2|", EPOCH)  # that was lost, too
    assert held(browser) == (3, 2)


def test_a_message_on_its_way_is_not_sent_again_for_what_was_said_before_it(browser: BrowserCopy):
    browser.sent(4, 2, [3])
    browser.read_request(f"{EPOCH}#2|3,2|", EPOCH)
    browser.sent(4, 2, [3])  # number 3
    browser.read_request(f"{EPOCH}#2|0,0|", EPOCH)  # said of number 2, before number 3 came
    assert held(browser) == (4, 2)


def test_values_that_are_wanted_are_sent_once_unless_they_were_lost_or_dropped(browser: BrowserCopy):
    browser.sent(9, 2, [7, 8])
    assert browser.read_request(f"{EPOCH}#2||4-7", EPOCH) == [4, 5, 6]
    browser.sent(9, 2, [4, 5])
    assert browser.read_request(f"{EPOCH}#2||4-7", EPOCH) == [6]  # no room yet
    browser.sent(9, 2, [6])
    assert browser.read_request(f"{EPOCH}#2||4-7", EPOCH) == []
    assert browser.read_request(f"{EPOCH}#3||6-7", EPOCH) == []  # on its way
    assert browser.read_request(f"{EPOCH}#4||6-7", EPOCH) == [6]  # lost
    assert browser.read_request(f"{EPOCH}#4||0-2", EPOCH) == [0, 1]  # dropped by the browser, to make place


@pytest.mark.parametrize(
    "missing",
    [
        "another run#1|0,0|",
        f"{EPOCH}#0|0,0|",  # before the first message
        f"{EPOCH}#2|0,0|",  # of a message that was never sent, but by a server before this one
        f"{EPOCH}#1|x,0|",
        f"{EPOCH}#1|0|",
        f"{EPOCH}#1||",
        EPOCH,
        "",
    ],
)
def test_what_says_nothing_of_this_account_changes_nothing(browser: BrowserCopy, missing: str):
    assert browser.read_request(missing, EPOCH) == []
    assert held(browser) == (3, 2)


def test_a_canvas_that_was_mounted_anew_is_sent_values_again(browser: BrowserCopy):
    browser.restart(EPOCH)
    assert browser.read_request(f"{EPOCH}#1|0,0|", EPOCH) == []
    assert held(browser) == (0, 0)
    browser.sent(3, 2, [0])
    assert browser.read_request(f"{EPOCH}#2||1-3", EPOCH) == [1, 2]
