"""The console's dialogs, as functions in the browser that runs them."""

from playwright.sync_api import Page

from tests.browser.scripted_server import run


def test_what_follows_a_dialog_is_there_once_it_is_closed(page: Page) -> None:
    """Files that were chosen on a page between the two were lost when the page was shown anew."""
    code = """
      let close, answer = "none yet";
      const ended = m.openDialog("Question", (given) => ((close = given), "text"));
      ended.then((given) => (answer = given));
      const before = document.querySelectorAll("dialog").length;
      close("yes");
      await null;
      return [before, document.querySelectorAll("dialog").length, answer];
    """
    assert run(page, "dialog", code) == [1, 0, "yes"]
