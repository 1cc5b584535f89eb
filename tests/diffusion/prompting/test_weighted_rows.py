"""Rows of weighted tokens, computed by hand, and the chunks of long prompts."""

import math

import torch

from pipeline_parts import LENGTH, clip_tokenizer
from thalweg.diffusion.prompting import Fragment, TokenChunk, chunk_tokens, weighted_rows
from thalweg.diffusion.prompting.token_chunks import empty_chunk

EMPTY = TokenChunk((1, 9, 0), (1.0, 1.0, 1.0), (-1, -1, -1))


def encode(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Rows (id, id squared) of the tokens that are read, plus the sum of all that are."""
    seen = ids if mask is None else ids * mask
    return torch.stack([seen, seen**2], dim=-1).double() + seen.sum()


def test_a1111_scales_rows_and_restores_the_mean() -> None:
    chunk = TokenChunk((1, 4, 9), (1.0, 2.0, 1.0), (-1, 0, -1))
    plain = torch.tensor([[[15.0, 15.0], [18.0, 30.0], [23.0, 95.0]]]).double()
    scaled = torch.tensor([[[15.0, 15.0], [36.0, 60.0], [23.0, 95.0]]]).double()
    torch.testing.assert_close(encode(torch.tensor([[1, 4, 9]]), None), plain)
    found = weighted_rows([chunk], encode, "a1111", EMPTY)
    torch.testing.assert_close(found, scaled * (196 / 244))
    torch.testing.assert_close(found.mean(), plain.mean())


def test_a1111_restores_the_mean_of_each_chunk() -> None:
    first, second = (
        TokenChunk((1, token, 9), (1.0, weight, 1.0), (-1, 0, -1)) for token, weight in ((4, 2.0), (5, 1.0))
    )
    found = weighted_rows([first, second], encode, "a1111", EMPTY)
    alone = [weighted_rows([each], encode, "a1111", EMPTY) for each in (first, second)]
    assert torch.equal(found, torch.cat(alone, dim=1))
    assert torch.equal(alone[1], encode(torch.tensor([[1, 5, 9]]), None))


def test_compel_moves_rows_from_the_empty_prompt() -> None:
    chunk = TokenChunk((1, 4, 9), (1.0, 1.5, 1.0), (-1, 0, -1))
    rows, origin = encode(torch.tensor([[1, 4, 9]]), None), encode(torch.tensor([[1, 9, 0]]), None)
    expected = rows.clone()
    expected[:, 1] = origin[:, 1] + 1.5 * (rows[:, 1] - origin[:, 1])
    torch.testing.assert_close(weighted_rows([chunk], encode, "compel", EMPTY), expected)


def test_compel_mixes_in_the_prompt_without_a_fragment_of_less_weight() -> None:
    chunk = TokenChunk((1, 4, 9), (1.0, 0.5, 1.0), (-1, 0, -1))
    origin = encode(torch.tensor([[1, 9, 0]]), None)
    sides = [encode(torch.tensor([[1, 4, 9]]), mask) for mask in (None, torch.tensor([[1, 0, 1]]))]
    weights = torch.tensor([1.0, 0.5, 1.0])[:, None]
    expected = sum(origin + (side - origin) * weights for side in sides) / 2  # tan(pi / 4) is 1
    torch.testing.assert_close(weighted_rows([chunk], encode, "compel", EMPTY), expected)
    off = TokenChunk((1, 4, 9), (1.0, 0.0, 1.0), (-1, 0, -1))
    without = origin + (sides[1] - origin) * torch.tensor([1.0, 0.0, 1.0])[:, None]
    torch.testing.assert_close(weighted_rows([off], encode, "compel", EMPTY), without, rtol=1e-3, atol=0)


def test_compel_mixes_several_fragments_over_all_chunks() -> None:
    chunks = [TokenChunk((1, 4, 9), (1.0, 0.8, 1.0), (-1, 0, -1)), TokenChunk((1, 5, 9), (1.0, 0.5, 1.0), (-1, 1, -1))]
    shares = [math.tan(0.2 * math.pi / 2), 1.0]
    origin = encode(torch.tensor([[1, 9, 0]]), None)
    expected = []
    for number, chunk in enumerate(chunks):
        weights = torch.tensor(chunk.weights)[:, None]
        masks = (None, torch.tensor([[1, 0, 1]]))
        base, without = (origin + (encode(torch.tensor([chunk.ids]), mask) - origin) * weights for mask in masks)
        total = base * (1 + shares[1 - number]) + without * shares[number]
        expected.append(total / (1 + sum(shares)))
    torch.testing.assert_close(weighted_rows(chunks, encode, "compel", EMPTY), torch.cat(expected, dim=1))


def test_weights_of_1_and_no_syntax_change_nothing() -> None:
    chunk = TokenChunk((1, 4, 9), (1.0, 1.0, 1.0), (-1, 0, -1))
    plain = encode(torch.tensor([[1, 4, 9]]), None)
    for syntax in ("a1111", "compel", None):
        torch.testing.assert_close(weighted_rows([chunk], encode, syntax, EMPTY), plain)


def test_tokens_in_chunks() -> None:
    tokenizer = clip_tokenizer()
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    a, red, e = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("a", "red", "e"))
    parts = [[Fragment("a a a a"), Fragment(" red red red ", 1.5)], [Fragment("e", 2.0)]]
    chunks = chunk_tokens(parts, tokenizer, str, LENGTH)
    assert [chunk.ids for chunk in chunks] == [
        (start, a, a, a, a, red, red, end),
        (start, red, end, pad, pad, pad, pad, pad),
        (start, e, end, pad, pad, pad, pad, pad),
    ]
    assert [chunk.weights for chunk in chunks] == [
        (1, 1, 1, 1, 1, 1.5, 1.5, 1),
        (1, 1.5, 1, 1, 1, 1, 1, 1),
        (1, 2, 1, 1, 1, 1, 1, 1),
    ]
    assert [chunk.fragments[1] for chunk in chunks] == [0, 1, 2]
    nothing = chunk_tokens([[Fragment("")]], tokenizer, str, LENGTH)
    assert nothing == [empty_chunk(tokenizer, LENGTH)]
    assert nothing[0].ids == (start, end, *(LENGTH - 2) * [pad])
