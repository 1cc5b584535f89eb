"""Weights as A1111 and Compel write them: their fragments, and one line for what is no weight."""

import time

import pytest

from thalweg.diffusion.prompting import parse_prompt
from thalweg.diffusion.prompting.prompt_syntax import SyntaxName
from thalweg.errors import UsageError

A1111 = {
    "a red ball": [("a red ball", 1)],
    "a (red) ball": [("a ", 1), ("red", 1.1), (" ball", 1)],
    "a ((red)) ball": [("a ", 1), ("red", 1.21), (" ball", 1)],
    "a [red] ball": [("a ", 1), ("red", 1 / 1.1), (" ball", 1)],
    "(red:1.6)": [("red", 1.6)],
    "(red: .5 )": [("red", 0.5)],
    "(a (red:2) ball:0.5)": [("a ", 0.5), ("red", 1.0), (" ball", 0.5)],
    "[(red)]": [("red", 1.0)],
    r"a \(red\) \[x\] c:\\d": [(r"a (red) [x] c:\d", 1)],
    "(red:blue)": [("red:blue", 1.1)],
    "at 12:30 (): red++": [("at 12:30 : red++", 1)],
    "": [("", 1)],
}
COMPEL = {
    "a red ball": [("a red ball", 1)],
    "a red++ ball": [("a ", 1), ("red", 1.21), (" ball", 1)],
    "a red- ball": [("a ", 1), ("red", 0.9), (" ball", 1)],
    "a red---, ball": [("a ", 1), ("red", 0.729), (", ball", 1)],
    "(a red)++ ball": [("a red", 1.21), (" ball", 1)],
    "(a red)1.4 ball": [("a red", 1.4), (" ball", 1)],
    '"a red"0.5 ball': [("a red", 0.5), (" ball", 1)],
    "(a (red)2 ball)0.5": [("a ", 0.5), ("red", 1.0), (" ball", 0.5)],
    "(a red) ball": [("a red ball", 1)],
    "(a red)1.4. (x)1.4x": [("a red", 1.4), (". x1.4x", 1)],
    "(a red)-1": [("a red", 0.9), ("1", 1)],
    "(a red) 1.4": [("a red 1.4", 1)],
    "a well-known ball": [("a well-known ball", 1)],
    "C++17 and 4+4 -x": [("C++17 and 4+4 -x", 1)],
    r"C\+\+ \(x\) \"y\"": [('C++ (x) "y"', 1)],
    "blue,red+.": [("blue,", 1), ("red", 1.1), (".", 1)],
    "[red] (a:1.2)": [("[red] a:1.2", 1)],
    "": [("", 1)],
}


@pytest.mark.parametrize(
    ("syntax", "text", "expected"),
    [*(("a1111", text, found) for text, found in A1111.items()), *(("compel", *item) for item in COMPEL.items())],
)
def test_fragments(syntax: SyntaxName, text: str, expected: list[tuple[str, float]]) -> None:
    (part,) = parse_prompt(text, syntax)
    assert [(fragment.text, pytest.approx(fragment.weight)) for fragment in part] == expected


def test_break_begins_a_part() -> None:
    parts = parse_prompt("a (red BREAK ball:2) BREAK", "a1111")
    assert [[(each.text, each.weight) for each in part] for part in parts] == [
        [("a ", 1.0), ("red ", 2.0)],
        [(" ball", 2.0), (" ", 1.0)],
        [("", 1.0)],
    ]


def test_plain_text_has_no_weights() -> None:
    ((fragment,),) = parse_prompt("a (red:1.6) ball++ BREAK", None)
    assert (fragment.text, fragment.weight) == ("a (red:1.6) ball++ BREAK", 1.0)


@pytest.mark.parametrize(
    ("syntax", "text", "message"),
    [
        ("a1111", "a (red", r"brackets in pairs in a prompt with weights, got \( alone; write \\\( for the character"),
        ("a1111", "a red)", r"got \) alone"),
        ("a1111", "a (red]", r"got \] alone"),
        ("a1111", "(red:99)", r"weights from 0 to 10 in a prompt, got 99 of 'red'"),
        ("a1111", "(red:-1)", "weights from 0 to 10 in a prompt, got -1"),
        ("a1111", "(" * 100 + "red" + ")" * 100, "weights from 0 to 10"),
        ("a1111", f"(red:{'9' * 400})", "weights from 0 to 10 in a prompt, got inf"),
        ("a1111", "a (red:1,6) ball", r"got ':1,6\)', which is no weight such as 1.5; leave it out"),
        ("a1111", "(red: 1e3)", r"got ': 1e3\)', which is no weight"),
        ("a1111", "[red:.5.]", r"got ':.5.\]', which is no weight"),
        ("compel", "(a red)1,6 ball", "got '1,6', which is no weight such as 1.5; leave it out"),
        ("compel", '"a red"1,6 ball', "got '1,6', which is no weight"),
        ("a1111", "[red:blue:0.5]", r"got '\[red:blue:0.5\]', a prompt that changes between steps; leave it out"),
        ("a1111", "[[red]:0.5]", "such a prompt changes between steps"),
        ("a1111", "[red|blue]", "a prompt that alternates between steps"),
        ("a1111", "red AND blue", "a composition of several prompts"),
        ("compel", "(a red", r"got \( alone"),
        ("compel", "a red)++", r"got \) alone"),
        ("compel", 'a "red', r'got " alone; write \\" for the character'),
        ("compel", "(red)11", "weights from 0 to 10"),
        ("compel", '("red", "blue").blend(0.5, 0.5)', r"got '.blend\(', an operation on prompts"),
        ("compel", "red- blue " * 40, "at most 32 parts of a weight below 1 in a prompt, got 40"),
    ],
)
def test_what_is_no_weight_is_one_line(syntax: SyntaxName, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_prompt(text, syntax)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "unit", ["(", "[", "(a", "[:", "[|", "a+", "-+", "a:", " ", "\\", '"', "BREAK ", "1.", "(a:1)"]
)
@pytest.mark.parametrize("syntax", ["a1111", "compel"])
def test_long_prompts_of_syntax_are_read_quickly(syntax: SyntaxName, unit: str) -> None:
    began = time.process_time()
    try:
        parse_prompt(unit * (10_000 // len(unit)), syntax)
    except UsageError as error:
        assert "\n" not in str(error)
    assert time.process_time() - began < 10
