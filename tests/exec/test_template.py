"""The words of a program: split once, and filled with an item as whole arguments or parts of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paco._exec.template import Template, TemplateError, text_of

PATH = "a dir/b.tar.gz"
FILLED = {
    "convert {} {.}.png": ["convert", PATH, "a dir/b.tar.png"],
    "echo {/} {//} {/.} {#}": ["echo", "b.tar.gz", "a dir", "b.tar", "7"],
    "echo -o={} '{} {}'": ["echo", f"-o={PATH}", f"{PATH} {PATH}"],
    "echo": ["echo", PATH],
    "echo ''": ["echo", "", PATH],
    "echo {{}} {{{}}} }}{{": ["echo", "{}", f"{{{PATH}}}", "}{", PATH],
    "{} --version": [PATH, "--version"],
    "sh -c 'cat \"$1\"' sh {}": ["sh", "-c", 'cat "$1"', "sh", PATH],
    "echo {#}": ["echo", "7"],
    "echo a\\ b": ["echo", "a b", PATH],
}
FILLED["echo {{}} {{{}}} }}{{"].pop()  # there is a placeholder


def test_placeholders_are_filled_as_arguments_or_parts_of_them():
    for text, words in FILLED.items():
        assert Template(text).fill(PATH, 7) == words, text


PATHS = {
    "b": ("b", "b", ".", "b"),
    ".bashrc": (".bashrc", ".bashrc", ".", ".bashrc"),
    "/b": ("/b", "b", "/", "b"),
    "a.d/b": ("a.d/b", "b", "a.d", "b"),
    "a/": ("a/", "", "a", ""),
    "../b.c": ("../b", "b.c", "..", "b"),
    "a\nb.c": ("a\nb", "a\nb.c", ".", "a\nb"),
}


def test_the_parts_of_a_path():
    for path, parts in PATHS.items():
        assert tuple(Template("{.} {/} {//} {/.}").fill(path, 1)) == parts, path


def test_fields_are_those_of_an_object_and_may_be_changed_like_paths():
    template = Template("cp {file} {file.}.bak '{to dir}/{file/}' {n} {yes} {none} {list} {.file//}")
    assert template.fields == ["file", "file", "to dir", "file", "n", "yes", "none", "list", ".file"]
    item = {"file": "a/b.c", "to dir": "x y", "n": 1.5, "yes": True, "none": None, "list": [1, "a"], ".file": "d/e"}
    words = ["cp", "a/b.c", "a/b.bak", "x y/b.c", "1.5", "true", "null", '[1,"a"]', "d"]
    assert template.fill(item, 1) == words


def test_an_item_that_is_no_text_is_json():
    assert Template("echo").fill({"a": "é"}, 1) == ["echo", '{"a":"é"}']
    assert text_of(7) == "7"


WRONG = {
    "": "expected a program and its arguments, got an empty text",
    "  ": "expected a program and its arguments, got an empty text",
    "echo 'a": '"echo \'a" cannot be split into words: no closing quotation',
    "echo a\\": "'echo a\\\\' cannot be split into words: no escaped character",
    "echo {a": "'{a' has a { that belongs to no placeholder; for a literal one, double it: {{",
    "echo a}": "'a}' has a } that belongs to no placeholder; for a literal one, double it: }}",
    "echo {a{b}": "'{a{b}' has a { that belongs to no placeholder; for a literal one, double it: {{",
}


def test_what_is_no_template_is_refused():
    for text, said in WRONG.items():
        with pytest.raises(TemplateError) as error:
            Template(text)
        assert str(error.value) == said


TWELVE = "'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'"
UNFILLED = [
    ("{name}", {"nam": 1}, "the item has no field 'name', but 'nam'; did you mean 'nam'?"),
    ("{name}", {"a": 1, "b": 2}, "the item has no field 'name', but 'a', 'b'"),
    ("{name}", dict.fromkeys("abcdefghijklmn"), f"the item has no field 'name', but {TWELVE} and 2 more"),
    ("{name}", {}, "the item has no field 'name', but none"),
    ("{name}", "text", "{name} needs an item that is an object, got 'text'; for literal braces: {{name}}"),
    ("{.}", {"a": 1}, "{.} needs an item that is a path, got {'a': 1}"),
]


def test_an_item_that_does_not_fill_a_template_is_told():
    for text, item, said in UNFILLED:
        with pytest.raises(TemplateError) as error:
            Template(f"echo {text}").fill(item, 1)
        assert str(error.value) == said


def test_the_program_is_known_unless_it_comes_from_the_item():
    assert Template("echo {}").program == "echo"
    assert Template("{} a").program == ""


def test_without_append_nothing_is_added():
    assert Template("wc -c", append=False).fill("a", 1) == ["wc", "-c"]


@given(st.text())
def test_an_item_is_never_more_or_less_than_one_argument(item):
    assert Template("echo {} -x={}").fill(item, 1) == ["echo", item, f"-x={item}"]


@given(st.dictionaries(st.text(), st.integers()))
def test_an_object_is_one_argument_of_json(item):
    (_, word) = Template("echo {}").fill(item, 1)
    assert json.loads(word) == item
