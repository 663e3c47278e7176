"""Clips from folders: which there are, how they are cut, what is left out, and moving leaves."""

import pickle

import numpy as np
import pytest
import torch
from made_clips import cut, moving, save_video, spoil
from PIL import Image

from diffusab_core.data import LeafClips, Leaves, StoredClips, leaf_clip, open_images
from diffusab_core.data.pixels import UnusableImage, to_tensor
from diffusab_core.data.places import ImagesError
from diffusab_core.latents.identity import images_identity


def save_frames(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{i}.png")


def as_clip(frames):
    return torch.stack([to_tensor(frame) for frame in frames], dim=1)


@pytest.fixture
def films(tmp_path):
    """Three whole films, one of them a folder of eleven frames, and one of each kind that is none."""
    root = tmp_path / "films"
    save_video(root / "a.mp4", moving(21, 32, 32))
    save_frames(root / "b" / "deep", moving(11, 32, 32, seed=1))
    save_video(root / "c.webm", moving(9, 32, 32, seed=2), codec="libvpx-vp9", pix_fmt="gbrp", lossless="1")
    cut(save_video(root / "cut.mp4", moving(21)), 0.5)
    save_video(root / "none.mkv", moving(0, 32, 32))
    save_video(root / "short.mp4", moving(4, 32, 32))
    save_video(root / "small.mp4", moving(9, 24, 40))
    save_video(root / "sound.mp4", moving(0), sound=True)
    Image.new("RGB", (32, 32)).save(root / "poster.jpg")
    (root / "notes.txt").write_text("nothing")
    return root


def test_every_film_is_cut_into_its_clips_and_all_else_is_named(films):
    clips = open_images(films, 32, frames=5)
    assert isinstance(clips, StoredClips)
    names = [clips.name(i) for i in range(len(clips))]
    assert names == [*(f"a.mp4, clip {k} of 4" for k in (1, 2, 3, 4)), "b/deep, clip 1 of 2", "b/deep, clip 2 of 2",
                     "c.webm"]  # fmt: skip
    frames = moving(21, 32, 32)
    for k in range(4):
        assert torch.equal(clips[k], as_clip(frames[5 * k : 5 * k + 5]))
    assert torch.equal(clips[5], as_clip(moving(11, 32, 32, seed=1)[5:10])), "frame_10 is after frame_9"
    assert torch.equal(clips[6], as_clip(moving(9, 32, 32, seed=2)[:5]))
    left_out = dict(clips.skipped)
    assert left_out.keys() == {"cut.mp4", "none.mkv", "notes.txt", "poster.jpg", "short.mp4", "small.mp4", "sound.mp4"}
    assert left_out["short.mp4"] == "it has 4 frames, a clip takes 5"
    assert left_out["small.mp4"] == "40 x 24 pixels, smaller than the resolution 32"
    assert left_out["sound.mp4"] == "it holds sound and no video"
    assert left_out["none.mkv"] == "it ends before its first frame"
    assert left_out["poster.jpg"] == "an image beside clips"
    assert all("\n" not in reason for reason in left_out.values())


def test_stride_and_fps_take_frames_by_the_clock(tmp_path):
    frames = moving(25, 32, 32)
    save_video(tmp_path / "a.mp4", frames)
    by_stride = open_images(tmp_path, 32, frames=4, stride=3)
    assert len(by_stride) == 2
    assert torch.equal(by_stride[1], as_clip(frames[[12, 15, 18, 21]]))
    by_clock = open_images(tmp_path, 32, frames=4, fps=12.5)
    assert torch.equal(by_clock[1], as_clip(frames[[8, 10, 12, 14]]))
    both = open_images(tmp_path, 32, frames=3, fps=12.5, stride=2)
    assert torch.equal(both[0], as_clip(frames[[0, 4, 8]]))
    assert (both.frames, both.stride, both.fps) == (3, 2, 12.5)
    with pytest.raises(ImagesError, match=r"a\.mp4: it has 13 frames at 12\.5 a second, a clip takes 15 \(8 with str"):
        open_images(tmp_path, 32, frames=8, fps=12.5, stride=2)
    with pytest.raises(ImagesError, match=r"a\.mp4: it has 25 frames a second, fewer than the 50"):
        open_images(tmp_path, 32, frames=4, fps=50)


def test_frames_of_a_folder_have_no_clock(tmp_path):
    save_frames(tmp_path / "a", moving(9, 32, 32))
    with pytest.raises(ImagesError, match="a: a folder of frames has no time stamps"):
        open_images(tmp_path, 32, frames=4, fps=10)
    assert torch.equal(open_images(tmp_path / "a", 32, frames=9)[0], as_clip(moving(9, 32, 32)))
    Image.new("RGB", (40, 40)).save(tmp_path / "a" / "frame_3.png")
    with pytest.raises(ImagesError, match=r"a: frame_3\.png has 40 x 40 pixels, the first frame of the clip 32 x 32"):
        open_images(tmp_path, 32, frames=9)


def test_all_frames_are_cut_alike(tmp_path):
    save_video(tmp_path / "a.mp4", np.repeat(moving(1, 64, 96), 30, axis=0))
    for crop in ("center", "random", "adm"):
        clip = open_images(tmp_path, 32, crop, seed=4, frames=6)[1]
        assert clip.shape == (3, 6, 32, 32)
        assert torch.equal(clip, clip[:, :1].expand_as(clip)), crop
    tall = open_images(tmp_path, (32, 16), frames=6)[0]
    assert tall.shape == (3, 6, 32, 16)


def test_random_clips_begin_anywhere_and_again_there(tmp_path):
    frames = moving(40, 32, 32)
    save_video(tmp_path / "a.mp4", frames)
    starts = set()
    for seed in range(8):
        clips = open_images(tmp_path, 32, "random", seed, frames=5)
        assert torch.equal(clips[2], clips[2])
        levels = clips[2][:, 0]
        same = [i for i in range(40) if torch.equal(to_tensor(frames[i]), levels)
                or torch.equal(to_tensor(frames[i]).flip(-1), levels)]  # fmt: skip
        assert len(same) == 1
        starts.update(same)
    assert len(starts) > 4
    assert max(starts) <= 35


def test_classes_are_the_folders_of_films(tmp_path):
    save_video(tmp_path / "jump" / "x.mp4", moving(6, 32, 32))
    save_frames(tmp_path / "walk" / "y", moving(7, 32, 32))
    clips = open_images(tmp_path, 32, labels=True, frames=6)
    assert (clips.classes, clips.targets) == (("jump", "walk"), (0, 1))
    assert clips[1][1] == 1
    save_video(tmp_path / "walk" / "z.mp4", moving(3, 32, 32))
    assert len(open_images(tmp_path, 32, labels=True, frames=6).skipped) == 1
    save_video(tmp_path / "loose.mp4", moving(6, 32, 32))
    with pytest.raises(ImagesError, match=r"loose\.mp4 has no class"):
        open_images(tmp_path, 32, labels=True, frames=6)
    assert len(open_images(tmp_path, 32, frames=6)) == 3


def test_what_breaks_inside_is_left_out_by_decoding_only(tmp_path):
    save_video(tmp_path / "a.mp4", moving(40), codec="libx264", pix_fmt="yuv420p", g="10", bf="0", crf="20")
    spoil(tmp_path / "a.mp4", 15)
    clips = open_images(tmp_path, 32, frames=10)
    assert [clips.name(i) for i in range(len(clips))] == [f"a.mp4, clip {k} of 4" for k in (1, 3, 4)]
    assert dict(clips.skipped) == {"a.mp4, clip 2 of 4": "frame 15 of 40 is damaged"}
    unseen = open_images(tmp_path, 32, frames=10, check="header")
    assert len(unseen) == 4
    with pytest.raises(UnusableImage, match=r"a\.mp4, clip 2 of 4: frame 15 of 40 is damaged"):
        unseen[1]
    with pytest.warns(UserWarning, match="a clip is left out of the training"):
        replaced = open_images(tmp_path, 32, frames=10, check="header", replace=True)[1]
    assert torch.equal(replaced, unseen[2])


def test_files_and_patterns_are_clips_too(films):
    assert len(open_images(films / "a.mp4", 32, frames=5)) == 4
    found = open_images([str(films / "a.mp4"), str(films / "c.webm"), str(films / "sound.mp4")], 32, frames=9)
    assert [found.name(i) for i in range(len(found))] == ["a.mp4, clip 1 of 2", "a.mp4, clip 2 of 2", "c.webm"]
    assert len(open_images(str(films / "[ac].*"), 32, frames=9)) == 3
    with pytest.raises(ImagesError, match="have no labels"):
        open_images(films / "a.mp4", 32, labels=True, frames=5)


def test_mistakes_are_explained(films, tmp_path):
    for where, options, said in (
        (films / "a.mp4", {}, r"holds clips: say with frames"),
        (films / "a.mp4", {"fps": 5}, r"fps is of clips: say with frames"),
        (films, {"stride": 2}, r"stride is of clips"),
        (films, {"frames": 0}, r"frames must be a whole number, at least 1, got 0"),
        (films, {"frames": 5, "stride": 0}, r"stride must be"),
        (films, {"frames": 5, "fps": 0.0}, r"fps must lie between 0 and 1000"),
        (films, {"frames": 99}, r"no usable clip in .*notes\.txt"),
        ("photos", {"frames": 5}, r"frames is no option for photos"),
        ("leaves", {"frames": 5, "stride": 2}, r"stride is no option for leaves"),
    ):
        with pytest.raises(ImagesError, match=said):
            open_images(where, 32, **options)
    only = tmp_path / "only" / "class"
    save_video(only / "a.mp4", moving(5, 32, 32))
    with pytest.raises(ImagesError, match=r"only holds clips: say with frames \(--frames 17\)"):
        open_images(only.parent, 32)


def test_clips_go_to_other_processes_and_are_told_apart(films):
    clips = open_images(films, 32, frames=5)
    again = pickle.loads(pickle.dumps(clips))
    assert torch.equal(again[3], clips[3])
    found = images_identity(clips)
    assert found["frames"] == 5
    assert images_identity(again) == found
    others = [open_images(films, 32, frames=4), open_images(films, 32, frames=5, fps=25),
              open_images(films, 32, frames=5, stride=2)]  # fmt: skip
    save_video(films / "a.mp4", moving(21, 32, 32, seed=9))
    others.append(open_images(films, 32, frames=5))
    assert all(images_identity(other) != found for other in others)
    assert len({str(images_identity(other)) for other in others}) == 4


def test_moving_leaves_are_a_dataset():
    clips = open_images("leaves", 32, seed=3, labels=True, length=10, frames=5)
    assert isinstance(clips, LeafClips)
    clip, label = clips[7]
    still, same = Leaves(32, 3, length=10)[7]
    assert clip.shape == (3, 5, 32, 32)
    assert label == same
    assert torch.equal(clip[:, 0], still)
    assert torch.equal(clip, leaf_clip(7, 5, resolution=32, seed=3))
    assert (clip[:, 1:] != clip[:, :-1]).flatten(1).any(1).all()
    plain = images_identity(Leaves(32, 3, length=10))
    assert images_identity(clips) == plain | {"frames": 5, "speed": 0.01, "spin": 0.03}
