"""Streams: no cut changes a bit, and nothing but a push changes a stream."""

from random import Random

import pytest
import torch
from safetensors.torch import load, save

from rtr_core.errors import SessionError, ShapeError
from rtr_core.shapes import frames_of, latent_frames
from rtr_core.vae.stream import DecoderStream, EncoderStream, encode_picture


class OutOfRoom(Exception):
    """Raised by a device, in the middle of a push."""


class FailsAt:
    """An autoencoder that fails, once, at its call of this number."""

    def __init__(self, vae, call):
        self.vae, self.channels, self.stride, self.left = vae, vae.channels, vae.stride, call

    def encode_group(self, pixels, trail):
        latent = self.vae.encode_group(pixels, trail)
        return self.counted(latent)

    def decode_latent(self, latent, trail):
        return self.counted(self.vae.decode_latent(latent, trail))

    def counted(self, made):
        self.left -= 1
        if self.left == 0:
            raise OutOfRoom
        return made


def pushed(stream, pieces):
    return torch.cat([made for piece in pieces if (made := stream.push(piece)) is not None], dim=2)


def some_cut(total, seed):
    """Lengths that add up to `total`, some of them 0."""
    rng, lengths = Random(seed), []
    while (left := total - sum(lengths)) > 0:
        lengths.append(rng.randint(0, min(left, 6)))
    return lengths


def encoded(vae, clip):
    encoder = EncoderStream(vae)
    latents = [encoder.push(clip), encoder.flush()]
    return torch.cat([latent for latent in latents if latent is not None], dim=2)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_of_the_frames_changes_a_bit(vae, clip, seed):
    pieces = clip.split(some_cut(clip.shape[2], seed), dim=2)
    assert torch.equal(pushed(EncoderStream(vae), pieces), EncoderStream(vae).push(clip))


def test_no_cut_of_the_latents_changes_a_bit(vae, clip):
    latents = encoded(vae, clip)
    whole = DecoderStream(vae).push(latents)
    for length in (1, 2):
        assert torch.equal(pushed(DecoderStream(vae), latents.split(length, dim=2)), whole)


def test_memory_layout_of_the_frames_changes_no_bit(either_vae, clip):
    channels_last = clip.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    assert torch.equal(
        EncoderStream(either_vae).push(channels_last), EncoderStream(either_vae).push(clip)
    )


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
def test_counts_follow_the_law_of_groups(vae, clip, frames):
    latents = encoded(vae, clip[:, :, :frames])
    assert latents.shape[2] == latent_frames(frames, vae.stride)
    pixels = DecoderStream(vae).push(latents)
    assert pixels.shape[2] == frames_of(latents.shape[2], vae.stride)
    assert pixels.shape[-2:] == clip.shape[-2:]


def test_flush_holds_the_last_frame(either_vae, clip):
    held = torch.cat([clip[:, :, :7], clip[:, :, 6:7].expand(-1, -1, 2, -1, -1)], dim=2)
    assert torch.equal(encoded(either_vae, clip[:, :, :7]), EncoderStream(either_vae).push(held))


def test_flush_has_nothing_to_give_when_groups_are_whole(either_vae, clip):
    encoder = EncoderStream(either_vae)
    assert encoder.flush() is None
    encoder.push(clip[:, :, :5])
    assert encoder.flush() is None


def test_frames_wait_until_their_group_is_whole(either_vae, clip):
    encoder = EncoderStream(either_vae)
    came = [encoder.push(frame) is not None for frame in clip[:, :, :6].split(1, dim=2)]
    assert came == [True, False, False, False, True, False]
    assert encoder.frames == 6


def test_reset_begins_a_new_clip(either_vae, clip):
    encoder, decoder = EncoderStream(either_vae), DecoderStream(either_vae)
    first = encoder.push(clip)
    pixels = decoder.push(first)
    encoder.reset()
    decoder.reset()
    assert encoder.frames == decoder.latents == 0
    assert torch.equal(encoder.push(clip), first)
    assert torch.equal(decoder.push(first), pixels)


def test_a_restored_stream_goes_on_the_same(vae, clip):
    encoder, decoder = EncoderStream(vae), DecoderStream(vae)
    decoder.push(encoder.push(clip[:, :, :6]))
    saved = load(save(encoder.snapshot())), load(save(decoder.snapshot()))
    latents = encoder.push(clip[:, :, 6:])
    pixels = decoder.push(latents)

    encoder, decoder = EncoderStream(vae), DecoderStream(vae)
    encoder.restore(saved[0])
    decoder.restore(saved[1])
    assert encoder.frames == 6
    assert torch.equal(encoder.push(clip[:, :, 6:]), latents)
    assert torch.equal(decoder.push(latents), pixels)


@pytest.mark.parametrize("frames", [0, 1, 5, 7])
def test_a_snapshot_can_be_taken_anywhere(either_vae, clip, frames):
    encoder, other = EncoderStream(either_vae), EncoderStream(either_vae)
    encoder.push(clip[:, :, :frames])
    other.restore(load(save(encoder.snapshot())))
    assert torch.equal(other.push(clip[:, :, frames:]), encoder.push(clip[:, :, frames:]))


def test_a_snapshot_stays_valid_while_the_stream_goes_on(vae, clip):
    for stream, piece in (
        (EncoderStream(vae), clip[:, :, :6]),
        (DecoderStream(vae), encoded(vae, clip[:, :, :5])),
    ):
        stream.push(piece)
        snapshot = stream.snapshot()
        copies = {name: tensor.clone() for name, tensor in snapshot.items()}
        stream.push(piece)
        assert same(snapshot, copies)


def test_a_snapshot_of_something_else_is_refused(either_vae, clip):
    encoder = EncoderStream(either_vae)
    encoder.push(clip[:, :, :6])
    before = encoder.snapshot()
    with pytest.raises(SessionError, match="'frames'"):
        encoder.restore(DecoderStream(either_vae).snapshot())
    assert same(encoder.snapshot(), before)


def test_a_picture_encoded_in_between_changes_nothing(either_vae, clip):
    encoder = EncoderStream(either_vae)
    begun = encoder.push(clip[:, :, :6])
    before = encoder.snapshot()
    picture = encode_picture(either_vae, clip[:, :, 9])
    assert picture.shape == begun[:, :, :1].shape
    assert torch.equal(picture, EncoderStream(either_vae).push(clip[:, :, 9:10]))
    assert same(encoder.snapshot(), before)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_failing_push_leaves_the_encoder_as_it_was(either_vae, clip, call):
    encoder = EncoderStream(FailsAt(either_vae, call + 2))
    begun = encoder.push(clip[:, :, :6])
    before = encoder.snapshot()
    with pytest.raises(OutOfRoom):
        encoder.push(torch.cat([clip[:, :, 6:], clip], dim=2))
    assert same(encoder.snapshot(), before)
    latents = torch.cat([begun, encoder.push(clip[:, :, 6:])], dim=2)
    assert torch.equal(latents, EncoderStream(either_vae).push(clip))


@pytest.mark.parametrize("call", [1, 2])
def test_a_failing_push_leaves_the_decoder_as_it_was(either_vae, clip, call):
    latents = encoded(either_vae, clip)
    decoder = DecoderStream(FailsAt(either_vae, call + 1))
    begun = decoder.push(latents[:, :, :1])
    before = decoder.snapshot()
    with pytest.raises(OutOfRoom):
        decoder.push(latents[:, :, 1:])
    assert same(decoder.snapshot(), before)
    pixels = torch.cat([begun, decoder.push(latents[:, :, 1:])], dim=2)
    assert torch.equal(pixels, DecoderStream(either_vae).push(latents))


def test_state_does_not_grow_and_keeps_no_larger_tensor_alive(vae, clip):
    def held(stream):
        tensors = stream.snapshot().values()
        assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in tensors)
        return sum(t.numel() for t in tensors)

    encoder, decoder = EncoderStream(vae), DecoderStream(vae)
    decoder.push(encoder.push(clip[:, :, :9]))
    before = held(encoder), held(decoder)
    decoder.push(encoder.push(clip[:, :, :8]))
    assert (held(encoder), held(decoder)) == before


def test_inference_mode_gives_the_same_bits(either_vae, clip):
    with torch.inference_mode():
        latents = EncoderStream(either_vae).push(clip)
    assert torch.equal(latents, EncoderStream(either_vae).push(clip))


def test_clips_of_a_batch_do_not_touch_each_other(either_vae, clip):
    both = EncoderStream(either_vae).push(torch.cat([clip, clip.flip(2)]))
    torch.testing.assert_close(both[:1], EncoderStream(either_vae).push(clip))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 4, 1, 32, 32), "b 3 t h w"), ((3, 1, 32, 32), "b 3 t h w"), ((1, 3, 1, 33, 32), "32x33")],
)
def test_frames_that_do_not_fit_are_refused(either_vae, shape, message):
    with pytest.raises(ShapeError, match=message):
        EncoderStream(either_vae).push(torch.zeros(shape))


def test_a_clip_cannot_change_its_size(either_vae, clip):
    encoder = EncoderStream(either_vae)
    encoder.push(clip[:, :, :1])
    with pytest.raises(ShapeError, match="reset the stream"):
        encoder.push(clip[..., :32])


def test_latents_that_do_not_fit_are_refused(either_vae):
    with pytest.raises(ShapeError, match=r"not \[1, 1, 1, 4, 4\]"):
        DecoderStream(either_vae).push(torch.zeros(1, 1, 1, 4, 4))
