"""Every family of VLMs as S2, on the real classes with random weights: what is promised holds for all of them."""

from dataclasses import replace
from operator import attrgetter

import pytest
import torch
from tiny_vlms import FAMILIES, write_vlm

from vla.s2.chat import Chat
from vla.s2.parts import LoraSettings, TrainedParts, parts_of, set_trained
from vla.s2.system import SlowConfig, SlowSystem
from vla.training.quantize import weight_bytes

PROMPTS = ["lift it", "push the blue ball all the way to the left 🧊", "what is there?"]
ANSWERS = ["a red cube and a blue ball", "yes", "no"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return write_vlm(request.param, tmp_path_factory.mktemp("vlm") / request.param)


@pytest.fixture
def config(folder) -> SlowConfig:
    return SlowConfig(cameras=("front", "wrist"), queries=3, layer=1, vlm=str(folder))


@pytest.fixture
def s2(config) -> SlowSystem:
    torch.manual_seed(1)
    return SlowSystem.from_vlm(config).eval()


@pytest.fixture(scope="module")
def images():
    """Three observations of two cameras."""
    return torch.randint(0, 256, (3, 2, 40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def same(a, b, atol=1e-4):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def layers_run(s2):
    ran: set[int] = set()
    for index, layer in enumerate(attrgetter(s2.family.decoder)(s2.model.model).layers):
        layer.register_forward_hook(lambda *_, index=index: ran.add(index))
    return ran


def test_latents_and_words_are_the_same_alone_and_in_a_batch_of_unequal_prompts(s2, images):
    latents, words = s2.think(images, PROMPTS, 3)
    assert latents.shape == (3, *s2.latent_shape) == (3, 3, 64)
    together = s2(images, PROMPTS, ANSWERS)
    same(s2(images, PROMPTS).latents, latents)
    same(together.latents, latents)
    alone = [s2(images[i : i + 1], [PROMPTS[i]], [ANSWERS[i]]) for i in range(3)]
    same(torch.cat([out.latents for out in alone]), latents)
    assert [s2.speak(images[i : i + 1], [PROMPTS[i]], 3)[0] for i in range(3)] == words
    tokens = torch.tensor([len(s2._ids(answer)) + 1.0 for answer in ANSWERS])
    same(together.word_loss, (torch.stack([out.word_loss for out in alone]) * tokens).sum() / tokens.sum())


def test_latents_depend_on_every_camera_and_on_the_words(s2, images):
    base = s2(images[:1], PROMPTS[:1]).latents
    for camera in range(2):
        changed = images[:1].clone()
        changed[:, camera] = 255 - changed[:, camera]
        assert not torch.allclose(base, s2(changed, PROMPTS[:1]).latents, atol=1e-4)
    assert not torch.allclose(base, s2(images[:1], PROMPTS[2:]).latents, atol=1e-4)


def test_several_questions_may_be_about_one_observation(s2, images):
    shared = s2(images[:1], PROMPTS, ANSWERS)
    repeated = s2(images[:1].expand(3, -1, -1, -1, -1), PROMPTS, ANSWERS)
    same(shared.latents, repeated.latents)
    same(shared.word_loss, repeated.word_loss)


def test_layers_above_the_latents_are_not_run_without_words(s2, images):
    ran = layers_run(s2)
    s2(images, PROMPTS)
    assert ran == {0, 1}
    s2.speak(images, PROMPTS, 1)
    assert ran == {0, 1, 2, 3}


def test_a_clip_is_read_as_the_family_reads_it(s2, images):
    clip = torch.stack([images, 255 - images], dim=2)
    latents = s2(clip, PROMPTS).latents
    assert latents.shape == (3, *s2.latent_shape)
    same(s2(clip[1:2], PROMPTS[1:2]).latents, latents[1:2])
    assert not torch.allclose(latents, s2(clip.flip(2), PROMPTS).latents, atol=1e-4)
    made = s2.prompter.head(clip, PROMPTS)
    assert ("video_grid_thw" in made) == s2.family.clips
    if s2.family.clips:  # two frames of a camera are one temporal patch
        assert made["video_grid_thw"].tolist() == [[1, 4, 4]] * 6


def test_gradients_reach_the_queries_and_unless_insulated_the_model(s2, images):
    for insulate in (True, False):
        s2.zero_grad()
        s2(images, PROMPTS, insulate=insulate).latents.square().sum().backward()
        assert s2.queries.grad is not None and s2.queries.grad.abs().sum() > 0
        parts = {
            name for name, of in parts_of(s2).items() if any(p.grad is not None and p.grad.abs().sum() > 0 for p in of)
        }
        assert parts == (set() if insulate else {"tower", "projector", "decoder", "words"})


def test_it_answers_about_a_picture_as_it_does_by_itself(folder, images):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    picture, question = images[0, 0], "what is there? a red cube"
    processor = AutoProcessor.from_pretrained(folder)
    if processor.chat_template:
        content = [{"type": "image", "image": picture.movedim(-1, 0)}, {"type": "text", "text": question}]
        inputs = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        inputs = processor(text="<image>" + question, images=picture.movedim(-1, 0), return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    said = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    answer = Chat(str(folder)).ask(picture.numpy(), question, 6)
    assert answer == processor.tokenizer.decode(said, skip_special_tokens=True)


def test_lora_trains_a_few_percent_and_is_saved_merged(config, images, tmp_path):
    s2 = SlowSystem.from_vlm(replace(config, lora=LoraSettings(rank=1)))
    set_trained(s2)
    trained = [p for p in s2.parameters() if p.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < 0.03 * sum(p.numel() for p in s2.parameters())
    before = s2(images, PROMPTS).latents.detach()
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        s2(images, PROMPTS, ANSWERS).word_loss.backward()
        optimizer.step()
    out = s2.eval()(images, PROMPTS, ANSWERS)
    assert (out.latents - before).abs().max() > 1e-3
    s2.save_pretrained(tmp_path)
    again = SlowSystem.from_pretrained(tmp_path)
    assert again.config == s2.config
    assert not any("lora" in name for name, _ in again.named_parameters())
    same(again(images, PROMPTS, ANSWERS).latents, out.latents)
    same(again(images, PROMPTS, ANSWERS).word_loss, out.word_loss)


def test_what_is_saved_comes_back_identical(s2, images, tmp_path):
    s2.save_pretrained(tmp_path)
    again = SlowSystem.from_pretrained(tmp_path)
    assert torch.equal(again(images, PROMPTS).latents, s2(images, PROMPTS).latents)
    assert again.speak(images, PROMPTS, 3) == s2.speak(images, PROMPTS, 3)


def test_in_int8_it_says_nearly_the_same_with_a_third_of_the_weights(s2, images, tmp_path):
    s2.config = replace(s2.config, int8=True)
    s2.save_pretrained(tmp_path)
    small = SlowSystem.from_pretrained(tmp_path)
    latents, words = small.think(images, PROMPTS, 3)
    assert torch.cosine_similarity(latents, s2(images, PROMPTS).latents, dim=-1).min() > 0.99
    assert len(words) == 3
    assert weight_bytes(small) < 0.35 * weight_bytes(s2)


def test_every_part_can_be_trained_or_left_alone(s2, images):
    for part in ("tower", "projector", "decoder", "words"):
        frozen = dict.fromkeys(("tower", "projector", "decoder", "words"), "frozen")
        s2.config = replace(s2.config, train=TrainedParts(**{**frozen, part: "full"}))
        set_trained(s2)
        for name, parameters in parts_of(s2).items():
            assert {p.requires_grad for p in parameters} == {name == part}
