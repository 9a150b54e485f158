"""S2 as a whole: what it reads is independent of the batch, and what it saves others can load."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from vla.errors import UserError
from vla.s2.small import SmallShape, small_slow_system
from vla.s2.system import SlowConfig, SlowSystem

SHAPE = SmallShape(image_size=32, channels=(16, 16, 32, 32), width=32, layers=3, heads=2, mlp=48)
PROMPTS = ["lift it", "push the red cube all the way to the left", "Schiebe den Würfel 🧊"]
ANSWERS = ["the red cube <loc12><loc40>", "yes", "no"]


def build(**config) -> SlowSystem:
    torch.manual_seed(0)
    return small_slow_system([*PROMPTS[:2], *ANSWERS], SlowConfig(**config), SHAPE).eval()


@pytest.fixture(scope="module")
def s2():
    return build(queries=4)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (3, 1, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_latents_are_the_same_alone_and_in_a_batch_of_unequal_prompts(s2, images):
    together = s2(images, PROMPTS).latents
    assert together.shape == (3, *s2.latent_shape) == (3, 4, 32)
    for i, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(s2(images[i : i + 1], [prompt]).latents[0], together[i], atol=1e-4, rtol=0)


@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_latents_do_not_depend_on_whether_words_are_wanted(images, layer):
    s2 = build(layer=layer)
    alone = s2(images, PROMPTS).latents
    torch.testing.assert_close(s2(images, PROMPTS, ANSWERS).latents, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(s2.think(images, PROMPTS, max_new_tokens=2)[0], alone, atol=1e-5, rtol=0)


def test_layers_above_the_latents_are_not_run_without_words(images):
    s2 = build(layer=0)
    ran = []
    for index, layer in enumerate(s2.model.model.language_model.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    s2(images, PROMPTS)
    assert set(ran) == {0}
    s2(images, PROMPTS, ANSWERS)
    assert set(ran) == {0, 1, 2}


def test_several_questions_share_one_look_at_the_image(s2, images):
    shared = s2(images[:1], PROMPTS, ANSWERS)
    repeated = s2(images[:1].expand(3, -1, -1, -1, -1), PROMPTS, ANSWERS)
    torch.testing.assert_close(shared.latents, repeated.latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(shared.word_loss, repeated.word_loss)


def test_latents_depend_on_image_and_on_words(s2, images):
    base = s2(images[:1], ["lift it"]).latents
    assert not torch.allclose(base, s2(images[1:2], ["lift it"]).latents, atol=1e-4)
    assert not torch.allclose(base, s2(images[:1], ["push it"]).latents, atol=1e-4)


def test_the_word_loss_is_that_of_the_answer_tokens_alone(s2, images):
    """The prompt and the padding of shorter answers do not count: the batch is the token-weighted mean of its rows."""
    rows = [s2(images[i : i + 1], [PROMPTS[i]], [ANSWERS[i]]).word_loss for i in range(3)]
    tokens = torch.tensor([len(s2._ids(answer)) + 1 for answer in ANSWERS], dtype=torch.float32)
    expected = (torch.stack(rows) * tokens).sum() / tokens.sum()
    torch.testing.assert_close(s2(images, PROMPTS, ANSWERS).word_loss, expected, atol=1e-5, rtol=0)


def test_places_may_count_less_than_the_words_between_them(s2, images):
    answer = "the red cube <loc12><loc40>"
    whole, words = (s2(images[:1], ["lift it"], [answer], weight).word_loss for weight in (1.0, 0.0))
    count = len(s2._ids(answer)) + 1
    places = (whole * count - words * (count - 2)) / 2
    mixed = s2(images[:1], ["lift it"], [answer], 0.5).word_loss
    torch.testing.assert_close(mixed, (words * (count - 2) + 0.5 * places * 2) / (count - 1), atol=1e-5, rtol=0)


def test_it_learns_to_say_different_things_of_different_images_and_prompts(images):
    s2 = build()
    optimizer = torch.optim.AdamW(s2.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = s2(images, PROMPTS, ANSWERS).word_loss
        loss.backward()
        optimizer.step()
    assert s2.speak(images, PROMPTS) == ANSWERS
    assert s2.speak(images[1:2], PROMPTS[1:2]) == ANSWERS[1:2]


def test_two_cameras_are_one_longer_sequence(s2, images):
    pair = torch.stack([images[0, 0], images[1, 0]])[None]
    out = s2(pair, ["lift it"])
    assert out.visual.shape == (1, 2 * 4, 32)
    assert not torch.allclose(out.latents, s2(pair.flip(1), ["lift it"]).latents, atol=1e-4)


def test_the_fast_image_path_equals_the_saved_processor(s2, images, tmp_path):
    s2.save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    slow = processor(images=[images[0, 0].numpy()], text="<image>lift it", return_tensors="pt")
    torch.testing.assert_close(s2.normalise(images[0, 0]), slow["pixel_values"][0], atol=1e-6, rtol=0)


def test_the_auto_classes_load_and_run_a_saved_s2(s2, images, tmp_path):
    s2.save_pretrained(tmp_path)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    inputs = processor(images=[images[0, 0].numpy()], text="<image>lift it", return_tensors="pt")
    assert model(**inputs).logits.shape[-1] == len(s2.tokenizer)
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1


def test_what_is_saved_comes_back(s2, images, tmp_path):
    s2.save_pretrained(tmp_path)
    again = SlowSystem.from_pretrained(tmp_path)
    assert again.config == s2.config
    torch.testing.assert_close(again(images, PROMPTS).latents, s2(images, PROMPTS).latents, atol=1e-6, rtol=0)
    assert again.speak(images, PROMPTS, 3) == s2.speak(images, PROMPTS, 3)


def test_bfloat16_on_disk_halves_the_file_and_changes_little(s2, images, tmp_path):
    s2.save_pretrained(tmp_path, dtype=torch.bfloat16)
    weights = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in weights.values()) == sum(p.numel() for p in s2.model.parameters())
    again = SlowSystem.from_pretrained(tmp_path)
    assert again.queries.dtype == torch.float32
    assert (again(images, PROMPTS).latents - s2(images, PROMPTS).latents).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "slow_system.json", "queries.safetensors"])
def test_a_missing_or_truncated_file_is_named(s2, tmp_path, name):
    s2.save_pretrained(tmp_path)
    file = tmp_path / name
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=str(tmp_path)):
        SlowSystem.from_pretrained(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=name):
        SlowSystem.from_pretrained(tmp_path)


def test_a_layer_the_model_does_not_have_is_an_error():
    with pytest.raises(UserError, match="layer is 3"):
        build(layer=3)
