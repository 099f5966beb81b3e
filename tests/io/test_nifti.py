"""The NIfTI edge: what is read lies where the file says, what is written is read back, what is broken is refused."""

import contextlib
import gzip
import itertools
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gliolens.case import Grid, Volume
from gliolens.errors import CaseError, ConfigError
from gliolens.io.nifti import mask_values, read_grid, read_labels, read_mask, read_volume, write_volume
from gliolens.labels import MASK_SCHEMES

few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
SHAPE = (5, 6, 7)
AXES = [
    np.diag([*signs, 1.0])[[*order, 3]]
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1.0, 1.0), repeat=3)
]
STORED = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64)


# --- files made without GlioLens -------------------------------------------------------------------------------


def placed(axes: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(-80.0, 40.0, 12.5), turn=None, shear=0.0):
    """An affine: voxel axes along +-x, y, z, then voxel sizes, shear and a turn of the head."""
    sheared = np.eye(4)
    sheared[0, 1] = shear
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3) if turn is None else turn
    affine = turned @ axes @ sheared @ np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def numbers(shape=SHAPE, dtype=np.int16, seed=0):
    """Voxels that all differ, so that one in a wrong place is seen."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(dtype)


def image(voxels=None, affine=None, sform=1, qform=0):
    voxels = numbers() if voxels is None else voxels
    made = nib.Nifti1Image(voxels, None, dtype=voxels.dtype)
    affine = placed(np.eye(4)) if affine is None else affine
    made.set_qform(affine, code=1)
    made.set_sform(affine, code=1)
    made.header["qform_code"], made.header["sform_code"] = qform, sform
    return made


def stored(folder: Path, made: nib.Nifti1Image, name="scan.nii") -> Path:
    nib.save(made, folder / name)
    return folder / name


def edited(folder: Path, name="scan.nii", made=None, **header: object) -> Path:
    """A file whose header is changed behind nibabel's back."""
    made = image() if made is None else made
    raw = bytearray(made.to_bytes())
    changed = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for field, value in header.items():
        changed[field] = value
    raw[:348] = changed.binaryblock
    path = folder / name
    path.write_bytes(gzip.compress(bytes(raw)) if name.endswith(".gz") else bytes(raw))
    return path


def with_pixdim(*values: float):
    return np.array([*values, 1, 0, 0, 0], np.float32)


def same_world(path: Path, volume: Volume, seed=0) -> None:
    """Voxels picked in the file by nibabel are found in the volume at the same place of the world."""
    file = nib.load(path)
    picked = np.random.default_rng(seed).integers(0, file.shape, size=(25, 3))
    world = nib.affines.apply_affine(file.affine, picked)
    index = nib.affines.apply_affine(np.linalg.inv(volume.affine), world)
    assert np.abs(index - np.round(index)).max() < 1e-3
    found = volume.voxels[tuple(np.round(index).astype(int).T)]
    wanted = np.asanyarray(file.dataobj)[tuple(picked.T)]
    np.testing.assert_array_equal(found, wanted.astype(found.dtype))


def same_file(source: Path, written: Path) -> None:
    """The written file has the source's voxels in the source's order, and its affine to 1e-5."""
    ours, theirs = nib.load(written), nib.load(source)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-5)
    np.testing.assert_array_equal(
        np.asanyarray(ours.dataobj), np.asanyarray(theirs.dataobj).astype(np.float32)
    )


# --- laws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES, ids=lambda a: "".join(nib.aff2axcodes(a)))
def test_each_of_the_48_orientations_is_turned_to_ras_and_back(tmp_path, axes):
    source = stored(tmp_path, image(affine=placed(axes, (0.9, 1.1, 3.0)), qform=1))
    read = read_volume(source, "p")
    assert nib.aff2axcodes(read.volume.affine) == ("R", "A", "S")
    off_diagonal = read.volume.affine[:3, :3][~np.eye(3, dtype=bool)]
    assert not off_diagonal.any(), "a grid along the axes stays along the axes"
    same_world(source, read.volume)
    assert read.source.voxel_ml == pytest.approx(0.9 * 1.1 * 3.0 / 1000)
    assert read.volume.grid.voxel_ml == pytest.approx(read.source.voxel_ml)
    write_volume(tmp_path / "back.nii", read.volume, read.source)
    same_file(source, tmp_path / "back.nii")
    again = read_volume(tmp_path / "back.nii", "p")
    np.testing.assert_array_equal(again.volume.voxels, read.volume.voxels)
    assert again.volume.grid.matches(read.volume.grid, 1e-4)


@few
@given(
    axes=st.sampled_from(AXES),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    origin=st.tuples(*[st.floats(-250.0, 250.0)] * 3),
    turn=st.one_of(st.floats(-0.1, 0.1), st.floats(-3.1, 3.1)),
    towards=st.tuples(*[st.floats(0.1, 1.0)] * 3),
    shear=st.one_of(st.just(0.0), st.floats(-0.3, 0.3)),
    dtype=st.sampled_from(STORED),
    big_endian=st.booleans(),
    ending=st.sampled_from((".nii", ".nii.gz", ".NII.GZ")),
)
def test_any_grid_and_storage_is_read_written_and_read_again(
    tmp_path, axes, spacing, origin, turn, towards, shear, dtype, big_endian, ending
):
    rotation = Rotation.from_rotvec(turn * np.array(towards) / np.linalg.norm(towards)).as_matrix()
    affine = placed(axes, spacing, origin, rotation, shear)
    made = image(numbers(dtype=np.uint8 if np.dtype(dtype).itemsize == 1 else np.int16).astype(dtype), affine)
    if big_endian:
        made = nib.Nifti1Image(made.dataobj, affine, made.header.as_byteswapped(">"), dtype=dtype)
    source = stored(tmp_path, made, f"scan{ending}")
    read = read_volume(source, "p")
    assert read.volume.voxels.dtype == np.float32
    assert read.volume.grid.voxel_ml == pytest.approx(read.source.voxel_ml, rel=1e-6)
    assert read_grid(source, "p").matches(read.source, 0.0)
    same_world(source, read.volume)
    write_volume(tmp_path / "back.nii", read.volume, read.source)
    same_file(source, tmp_path / "back.nii")


@few
@given(
    slope=st.floats(-100, 100, width=32).filter(lambda s: abs(s) > 1e-3), inter=st.floats(-1e4, 1e4, width=32)
)
def test_the_stored_scale_is_applied(tmp_path, slope, inter):
    path = edited(tmp_path, scl_slope=slope, scl_inter=inter)
    read = read_volume(path, "p").volume.voxels
    np.testing.assert_array_equal(read, (numbers().astype(np.float64) * slope + inter).astype(np.float32))


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
def test_a_slope_of_zero_or_no_number_is_no_scale(tmp_path, slope):
    path = edited(tmp_path, scl_slope=slope, scl_inter=7.0)
    np.testing.assert_array_equal(read_volume(path, "p").volume.voxels, numbers())


def test_nifti_2_is_read_like_nifti_1(tmp_path):
    one = image(affine=placed(AXES[17], (1, 2, 3)))
    nib.save(nib.Nifti2Image(one.dataobj, one.affine), tmp_path / "two.nii.gz")
    found = read_volume(tmp_path / "two.nii.gz", "p")
    same_world(tmp_path / "two.nii.gz", found.volume)
    assert np.allclose(found.source.affine, one.affine)


def test_whole_numbers_beyond_float32_are_rounded_in_a_series_and_exact_in_a_mask(tmp_path):
    path = stored(tmp_path, image(np.array([[[0, 2**24 + 1]]], np.int32)))
    assert read_volume(path, "p").volume.voxels.max() == np.float32(2**24 + 1) == 2**24
    assert mask_values(path, "p") == {0, 2**24 + 1}


def test_an_oblique_written_file_is_the_same_for_itk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    turn = Rotation.from_euler("xyz", [0.2, -0.4, 0.3]).as_matrix()
    for k, axes in enumerate(AXES):
        source = stored(tmp_path, image(affine=placed(axes, (0.9, 1.2, 3.0), turn=turn), qform=1))
        read = read_volume(source, "p")
        write_volume(tmp_path / f"{k}.nii", read.volume, read.source)
        ours, theirs = sitk.ReadImage(str(tmp_path / f"{k}.nii")), sitk.ReadImage(str(source))
        for name in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
            np.testing.assert_allclose(getattr(ours, name)(), getattr(theirs, name)(), atol=1e-4)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        point = theirs.TransformIndexToPhysicalPoint((1, 2, 3)) * np.array([-1, -1, 1])
        index = np.round(np.linalg.inv(read.volume.affine) @ [*point, 1])[:3].astype(int)
        assert read.volume.voxels[tuple(index)] == theirs[1, 2, 3]


# --- sform and qform -------------------------------------------------------------------------------------------


def test_either_form_alone_places_the_voxels(tmp_path):
    affine = placed(AXES[5], (1, 1.5, 2), turn=Rotation.from_euler("x", 0.3).as_matrix())
    for sform, qform in ((1, 0), (0, 1), (4, 0), (0, 2), (2, 1)):
        path = stored(tmp_path, image(affine=affine, sform=sform, qform=qform))
        np.testing.assert_allclose(read_volume(path, "p").source.affine, affine, atol=1e-4)


def test_the_qform_of_code_0_is_not_looked_at(tmp_path):
    path = edited(tmp_path, quatern_b=5.0, quatern_c=np.nan, qoffset_x=900.0)
    assert read_volume(path, "p").source.matches(Grid(SHAPE, placed(np.eye(4))), 1e-4)


def test_a_shear_that_a_qform_cannot_hold_is_no_contradiction(tmp_path):
    affine = placed(np.eye(4), (1, 1, 4), shear=0.4)
    for qform in (0, 1):
        path = stored(tmp_path, image(numbers((40, 40, 12)), affine, qform=qform))
        np.testing.assert_allclose(read_volume(path, "p").source.affine, affine, atol=1e-4)
    write_volume(tmp_path / "back.nii", read_volume(path, "p").volume, read_volume(path, "p").source)
    back = nib.load(tmp_path / "back.nii")
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    assert back.header["qform_code"] == 0, "the written file does not contradict itself either"


def test_a_qfac_of_0_stands_for_1(tmp_path):
    made = image(sform=0, qform=1)
    path = edited(tmp_path, made=made, pixdim=with_pixdim(0, 1, 1, 1))
    assert read_volume(path, "p").source.matches(Grid(SHAPE, made.get_qform()), 1e-5)


@pytest.mark.parametrize("apart", [0.0, 0.2])
def test_forms_that_differ_by_less_than_half_a_voxel_agree(tmp_path, apart):
    made = image(qform=1)
    path = edited(tmp_path, made=made, qoffset_x=made.header["qoffset_x"] + apart)
    assert read_volume(path, "p").source.matches(Grid(SHAPE, made.affine), 1e-4), "the sform decides"


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", AXES[::7])
@pytest.mark.parametrize(
    ("voxels", "kept_as"),
    [(np.bool_, np.uint8), (np.uint8, np.uint8), (np.int64, np.int32), (np.float16, np.float32)],
)
def test_any_type_is_written_in_one_that_others_read(tmp_path, axes, voxels, kept_as):
    source = Grid(SHAPE, placed(axes))
    turned = read_volume(stored(tmp_path, image(affine=source.affine)), "p").volume
    written = (turned.voxels % 2).astype(voxels)
    write_volume(tmp_path / "out" / "mask.nii.gz", Volume(written, turned.affine), source)
    back = nib.load(tmp_path / "out" / "mask.nii.gz")
    assert back.get_data_dtype() == kept_as
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), numbers() % 2)
    assert (back.header["sform_code"], back.header["qform_code"]) == (1, 1)
    assert back.header.get_xyzt_units()[0] == "mm"


def test_a_crop_is_written_into_the_whole_grid_with_nothing_around_it(tmp_path):
    source = Grid(SHAPE, placed(AXES[11], (1, 2, 3)))
    turned = read_volume(stored(tmp_path, image(affine=source.affine)), "p").volume
    labels = (turned.voxels % 4).astype(np.uint8)
    affine = turned.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [1, 2, 1]
    part = Volume(labels[1:4, 2:4, 1:4], affine)
    write_volume(tmp_path / "part.nii", part, source)
    back = read_labels(tmp_path / "part.nii", "p", "gliolens")[0].volume.voxels
    expected = np.zeros_like(labels)
    expected[1:4, 2:4, 1:4] = part.voxels
    np.testing.assert_array_equal(back, expected)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    read = read_volume(stored(tmp_path, image()), "p")
    for folder in ("a", "b"):
        write_volume(tmp_path / folder / "x.nii.gz", read.volume, read.source)
    assert (tmp_path / "a" / "x.nii.gz").read_bytes() == (tmp_path / "b" / "x.nii.gz").read_bytes()


@pytest.mark.parametrize(
    ("name", "dtype", "says"),
    [
        ("x.hdr", np.uint8, ".nii.gz"),
        ("x.mgz", np.uint8, ".nii.gz"),
        ("x", np.uint8, ".nii.gz"),
        ("x.nii", np.complex64, "real"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, name, dtype, says):
    grid = Grid(SHAPE, np.eye(4))
    with pytest.raises(ConfigError, match=says):
        write_volume(tmp_path / name, Volume(np.ones(SHAPE, dtype), np.eye(4)), grid)
    assert not list(tmp_path.iterdir())


def test_integers_beyond_int32_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="int32"):
        write_volume(tmp_path / "x.nii", Volume(np.full(SHAPE, 2**40), np.eye(4)), Grid(SHAPE, np.eye(4)))


# --- one volume of a 4-D file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["four.nii", "four.nii.gz"])
def test_a_hash_and_number_read_one_volume_of_a_4d_file(tmp_path, name):
    voxels = numbers((3, 4, 5, 3))
    made = image(voxels, placed(AXES[9]))
    path = stored(tmp_path, made, name)
    for k in range(3):
        alone = stored(tmp_path, image(voxels[..., k], placed(AXES[9])), f"{k}.nii")
        ours, theirs = read_volume(f"{path}#{k}", "p"), read_volume(alone, "p")
        np.testing.assert_array_equal(ours.volume.voxels, theirs.volume.voxels)
        assert ours.source.matches(theirs.source, 0.0)
        assert read_grid(Path(f"{path}#{k}"), "p").matches(theirs.source, 0.0)


def test_a_file_whose_own_name_ends_like_that_is_read_as_the_file(tmp_path):
    stored(tmp_path, image(), "scan.nii#1.nii")
    assert read_volume(tmp_path / "scan.nii#1.nii", "p").volume.voxels.shape == SHAPE


# --- bad input -------------------------------------------------------------------------------------------------

Maker = Callable[[Path], Path | str]
BAD: dict[str, tuple[Maker, str, str]] = {}
"""By name: how to make the file, a word of what is found, a word of what mends it."""


def bad(found: str, mend: str):
    def kept(maker: Maker) -> Maker:
        BAD[maker.__name__] = (maker, found, mend)
        return maker

    return kept


def raw(folder: Path, content: bytes, name="scan.nii.gz") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def zipped() -> bytes:
    return gzip.compress(image().to_bytes())


for cut in (1, 2, 3, 9, 10, 15, 60, 200, len(zipped()) - 9, len(zipped()) - 8, len(zipped()) - 1):
    BAD[f"gzip_cut_at_{cut}"] = (
        lambda d, n=cut: raw(d, zipped()[:n]),
        "gzip" if cut > 1 else "not a gzip file",
        "again",
    )
for cut in (4, 100, 347, 348, 351, 352, 353, 700):
    BAD[f"plain_cut_at_{cut}"] = (
        lambda d, n=cut: raw(d, image().to_bytes()[:n], "scan.nii"),
        "cut short",
        "again",
    )
for name in ("scan.hdr", "scan.img", "scan.mgz", "scan.mha", "scan.dcm", "scan"):
    BAD[f"named_{name}"] = (lambda d, n=name: raw(d, zipped(), n), f"named {name}", "convert")


@bad("not a gzip file", "rename it to .nii")
def not_gzip(d):
    return raw(d, image().to_bytes())


@bad("a gzip file, whatever its name", "rename it to .nii.gz")
def gzip_named_nii(d):
    return raw(d, zipped(), "scan.nii")


@bad("empty file", "again")
def empty_gz(d):
    return raw(d, b"")


@bad("empty file", "again")
def empty_nii(d):
    return raw(d, b"", "scan.nii")


@bad("no NIfTI header", "convert")
def gzip_of_nothing(d):
    return raw(d, gzip.compress(b""))


@bad("not a gzip file", "again")
def text_gz(d):
    return raw(d, b"to do: export the scan\n" * 100)


@bad("no NIfTI header", "convert")
def text_nii(d):
    return raw(d, b"to do: export the scan\n" * 100, "scan.nii")


@bad("no NIfTI header", "convert")
def mgz_renamed(d):
    nib.save(nib.MGHImage(numbers(dtype=np.int16), np.eye(4)), d / "x.mgz")
    return (d / "x.mgz").rename(d / "scan.nii.gz")


@bad("magic", "convert")
def analyze_renamed(d):
    nib.save(nib.AnalyzeImage(numbers(), np.eye(4)), d / "x.hdr")
    return (d / "x.hdr").rename(d / "scan.nii")


@bad("pair", "convert")
def pair_renamed(d):
    nib.save(nib.Nifti1Pair(numbers(), np.eye(4)), d / "x.hdr")
    return (d / "x.hdr").rename(d / "scan.nii")


@bad("a folder", "name the file")
def folder(d):
    (d / "scan.nii.gz").mkdir()
    return d / "scan.nii.gz"


@bad("no such file", "correct the path")
def missing(d):
    return d / "scan.nii.gz"


@bad("no such file", "correct the path")
def missing_frame(d):
    return f"{d / 'scan.nii.gz'}#0"


@bad("cannot be read", "path")
def name_too_long(d):
    return d / f"{'scan' * 100}.nii.gz"


@bad("cut short or damaged", "again")
def crc(d):
    content = bytearray(zipped())
    content[-8] ^= 1
    return raw(d, bytes(content))


@bad("cut short or damaged", "again")
def crc_of_a_large_file(d):
    voxels = np.random.default_rng(0).integers(0, 9999, (64, 64, 40), np.int16)
    content = bytearray(gzip.compress(image(voxels).to_bytes(), 1))
    content[-8] ^= 1
    return raw(d, bytes(content))


@bad("cut short or damaged", "again")
def damaged_middle(d):
    content = bytearray(zipped())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    return raw(d, bytes(content))


@bad("magic", "convert")
def magic(d):
    return edited(d, magic=b"bad")


@bad("2-D", "3-D")
def two_d(d):
    return stored(d, image(numbers((5, 6))))


@bad("4-D", "FILE.nii.gz#0")
def four_d(d):
    return stored(d, image(numbers((3, 4, 5, 2))))


@bad("4-D", "FILE.nii.gz#0")
def four_d_of_one(d):
    return edited(d, dim=[4, *SHAPE, 1, 1, 1, 1])


@bad("5-D", "3-D")
def five_d(d):
    return stored(d, image(numbers((3, 4, 5, 2, 2))))


@bad("volume 7", "number behind #")
def frame_out_of_range(d):
    return f"{stored(d, image(numbers((3, 4, 5, 2))))}#7"


@bad("volume 0", "number behind #")
def frame_of_3d(d):
    return f"{stored(d, image())}#0"


@bad("RGB", "int16")
def rgb(d):
    return stored(d, image(np.zeros(SHAPE, nib.nifti1.data_type_codes.dtype["RGB"])))


@bad("complex", "int16")
def complex_numbers(d):
    return stored(d, image(numbers().astype(np.complex64)))


@bad("binary", "int16")
def one_bit(d):
    return edited(d, datatype=1, bitpix=1)


@bad("code 9999", "int16")
def unknown_type(d):
    return edited(d, datatype=9999)


@bad("cut short", "again")
def shape_beyond_the_file(d):
    return edited(d, "scan.nii.gz", dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])


@bad("shape (5, 0, 7)", "export")
def zero_size(d):
    return edited(d, dim=[3, 5, 0, 7, 1, 1, 1, 1])


@bad("shape (-1, 6, 7)", "export")
def negative_size(d):
    return edited(d, dim=[3, -1, 6, 7, 1, 1, 1, 1])


@bad("0-D", "3-D")
def no_dimensions(d):
    return edited(d, dim=[0, 5, 6, 7, 1, 1, 1, 1])


@bad("begin at byte", "again")
def offset_in_header(d):
    return edited(d, vox_offset=100)


@bad("begin at byte", "again")
def offset_nan(d):
    return edited(d, vox_offset=np.nan)


@bad("scale", "again")
def scale_without_offset(d):
    return edited(d, scl_slope=2, scl_inter=np.inf)


@bad("determinant zero", "DICOM")
def affine_zero(d):
    return edited(d, srow_x=0, srow_y=0, srow_z=0)


@bad("determinant zero", "DICOM")
def affine_flat(d):
    return edited(d, srow_z=[1, 1, 0, 0], srow_y=[0, 1, 0, 0], srow_x=[1, 0, 0, 0])


@bad("not finite", "DICOM")
def affine_nan(d):
    return edited(d, srow_x=[np.nan, 0, 0, 0])


@bad("not finite", "DICOM")
def affine_infinite(d):
    return edited(d, srow_x=[1, 0, 0, np.inf])


@bad("pixdim", "set_zooms")
def pixdim_nan(d):
    return edited(d, pixdim=with_pixdim(1, np.nan, 1, 1))


@bad("pixdim", "set_zooms")
def pixdim_nan_of_qform(d):
    return edited(d, made=image(sform=0, qform=1), pixdim=with_pixdim(1, np.nan, 1, 1))


@bad("pixdim", "set_zooms")
def pixdim_zero(d):
    return edited(d, made=image(sform=0, qform=1), pixdim=with_pixdim(1, 1, 0, 1))


@bad("pixdim", "set_zooms")
def pixdim_negative(d):
    return edited(d, made=image(sform=0, qform=1), pixdim=with_pixdim(1, -1, 1, 1))


@bad("metres", "set_xyzt_units")
def in_metres(d):
    return edited(d, xyzt_units=1)


@bad("micrometres", "set_xyzt_units")
def in_micrometres(d):
    return edited(d, xyzt_units=3 | 8)


@bad("contradicts", "fslorient -copysform2qform")
def qform_elsewhere(d):
    return edited(d, made=image(qform=1), qoffset_x=30.0)


@bad("contradicts", "fslorient -copysform2qform")
def qform_mirrored(d):
    return edited(d, made=image(qform=1), pixdim=with_pixdim(-1, 1, 1, 1))


@bad("contradicts", "fslorient -copysform2qform")
def qform_sheared_and_elsewhere(d):
    made = image(numbers((40, 40, 12)), placed(np.eye(4), shear=0.4), qform=1)
    return edited(d, made=made, qoffset_x=30.0)


@bad("neither sform nor qform", "DICOM")
def no_form(d):
    return edited(d, sform_code=0, qform_code=0)


@bad("neither sform nor qform", "DICOM")
def forms_of_negative_code(d):
    return edited(d, sform_code=-1, qform_code=-2)


@bad("qform that cannot be read", "convert")
def quaternion(d):
    return edited(d, made=image(sform=0, qform=1), quatern_b=0.9, quatern_c=0.9, quatern_d=0.9)


@bad("not finite", "DICOM")
def quaternion_nan(d):
    return edited(d, made=image(qform=1), quatern_b=np.nan)


@bad("qform that cannot be read", "convert")
def qfac(d):
    return edited(d, made=image(sform=0, qform=1), pixdim=with_pixdim(3, 1, 1, 1))


@bad("3 voxels that are not finite", "division by zero")
def nan_voxels(d):
    voxels = numbers(dtype=np.float32)
    voxels[0, 0, :2], voxels[4, 5, 6] = np.nan, np.inf
    return stored(d, image(voxels))


READERS = (read_volume, read_labels, read_mask, mask_values)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_case_file_finding_and_mend(tmp_path, name, capfd, caplog):
    maker, found, mend = BAD[name]
    path = maker(tmp_path)
    for read in READERS:
        with pytest.raises(CaseError) as refused:
            read(path, "Patient Ä 007")
        text = str(refused.value)
        assert "'Patient Ä 007'" in text
        assert str(path) in text
        assert found in refused.value.found, text
        assert mend in f"{refused.value.expected} {refused.value.fix}", text
        assert len(text) < 1200
    assert capfd.readouterr() == ("", ""), "a refusal is an error, not print"
    assert not caplog.records


@pytest.mark.parametrize("name", [n for n in BAD if n not in {
    "nan_voxels", "crc", "crc_of_a_large_file", "damaged_middle", "shape_beyond_the_file", "scale_without_offset"
} and "_cut_at_" not in n])  # fmt: skip
def test_the_header_alone_is_enough_to_refuse_a_bad_header(tmp_path, name):
    maker, found, _ = BAD[name]
    with pytest.raises(CaseError, match=r"found: +.*") as refused:
        read_grid(maker(tmp_path), "p")
    assert found in refused.value.found


@pytest.mark.parametrize(
    ("voxels", "found"),
    [
        (np.zeros(SHAPE, np.int16), "every voxel is 0"),
        (np.full(SHAPE, 12.5), "every voxel is 12.5"),
        (np.where(numbers() == 3, 1e300, 1.0), "1 voxels beyond float32"),
    ],
)
def test_a_series_without_an_image_is_refused(tmp_path, voxels, found):
    with pytest.raises(CaseError, match=found):
        read_volume(stored(tmp_path, image(voxels)), "p")


@settings(few, max_examples=150)
@given(
    data=st.data(),
    mode=st.sampled_from(("header", "gzip")),
    hits=st.integers(1, 6),
)
def test_whatever_bytes_are_hit_nothing_but_a_case_error_comes_out(tmp_path, data, mode, hits):
    content = bytearray(zipped() if mode == "gzip" else image(qform=1).to_bytes())
    last = min(len(content), 352) - 1
    for _ in range(hits):
        content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    path = raw(tmp_path, bytes(content), "scan.nii.gz" if mode == "gzip" else "scan.nii")
    for read in (*READERS, read_grid):
        with contextlib.suppress(CaseError):
            read(path, "p")


def test_odd_but_valid_headers_are_read_without_a_word(tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    odd = {
        "bitpix": 0, "intent_code": 12345, "xyzt_units": 0, "vox_offset": 353 + 7, "sform_code": 7,
        "descrip": b"\xff" * 80, "cal_max": np.nan, "extents": -1, "dim_info": 255,
    }  # fmt: skip
    made = bytearray(image().to_bytes())
    made[352:352] = bytes(8)
    header = nib.Nifti1Header(bytes(made[:348]), check=False)
    for field, value in odd.items():
        header[field] = value
    made[:348] = header.binaryblock
    read = read_volume(raw(tmp_path, bytes(made), "scan.nii"), "p")
    np.testing.assert_array_equal(read.volume.voxels, numbers())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_gzip_in_several_members_and_padded_with_zeros_is_one_file(tmp_path):
    content = image().to_bytes()
    path = raw(tmp_path, gzip.compress(content[:200]) + gzip.compress(content[200:]) + bytes(64))
    np.testing.assert_array_equal(read_volume(path, "p").volume.voxels, numbers())


def test_a_gzip_that_names_a_wrong_length_is_refused(tmp_path):
    content = zipped()[:-4] + struct.pack("<I", 5)
    with pytest.raises(CaseError, match="damaged"):
        read_volume(raw(tmp_path, content), "p")


# --- masks -----------------------------------------------------------------------------------------------------


def mask(folder: Path, *values: float, dtype=np.float32) -> Path:
    voxels = np.zeros((4, 4, 4), dtype)
    voxels.flat[: len(values)] = values
    return stored(folder, image(voxels), "mask.nii.gz")


@pytest.mark.parametrize("scheme", MASK_SCHEMES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_every_scheme_is_brought_to_the_labels_inside(tmp_path, scheme, dtype):
    mapping = MASK_SCHEMES[scheme]
    read, named = read_labels(mask(tmp_path, *mapping, dtype=dtype), "p", scheme)
    assert named == scheme
    assert read.volume.voxels.dtype == np.uint8
    np.testing.assert_array_equal(read.volume.voxels.flat[: len(mapping)], list(mapping.values()))
    assert set(np.unique(read.volume.voxels)) <= {0, 1, 2, 3}


def test_both_readings_of_a_bare_4_are_named(tmp_path):
    path = mask(tmp_path, 1, 2, 4)
    with pytest.raises(CaseError) as refused:
        read_labels(path, "p")
    text = str(refused.value)
    for word in (
        "enhancing tumour",
        "resection cavity",
        "--mask-scheme brats2020",
        "--mask-scheme brats2024",
    ):
        assert word in text
    enhancing, _ = read_labels(path, "p", "brats2020")
    cavity, _ = read_labels(path, "p", "brats2024")
    assert (enhancing.volume.voxels.flat[2], cavity.volume.voxels.flat[2]) == (3, 0)


def test_a_3_beside_a_4_is_brats_2024(tmp_path):
    read, scheme = read_labels(mask(tmp_path, 1, 2, 3, 4), "p")
    assert scheme == "brats2024"
    np.testing.assert_array_equal(read.volume.voxels.flat[:4], [1, 2, 3, 0])


def test_a_mask_without_tumour_is_a_finding_not_an_error(tmp_path):
    read, scheme = read_labels(mask(tmp_path), "p")
    assert scheme == "gliolens"
    assert not read.volume.voxels.any()


@pytest.mark.parametrize(
    ("values", "scheme", "found", "mend"),
    [
        ((1, 2, 7), None, "7", "--mask-scheme"),
        ((1, 2, 4), "brats2023", "4, unknown", "--mask-scheme"),
        ((2,), "binary", "2, unknown", "--mask-scheme"),
        ((1, 0.5, 2.25), None, "0.5, 2.25", "nearest neighbour"),
        ((-1, 1), None, "-1", "--mask-scheme"),
        ((1, np.nan), None, "not finite", "division by zero"),
        ((1, np.inf), "brats2020", "not finite", "division by zero"),
        (tuple(range(60)), None, "50 more", "--mask-scheme"),
        ((1e30,), None, "1000000", "--mask-scheme"),
    ],
)
def test_values_that_are_no_labels_are_refused(tmp_path, values, scheme, found, mend):
    path = mask(tmp_path, *values)
    with pytest.raises(CaseError, match=found) as refused:
        read_labels(path, "case 1", scheme)
    assert mend in refused.value.fix
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 600


def test_a_scheme_that_is_not_known_is_a_wrong_argument(tmp_path):
    with pytest.raises(ConfigError, match="brats2020"):
        read_labels(mask(tmp_path, 1), "p", "brats1999")


def test_a_brain_mask_may_fill_the_image_but_not_be_empty(tmp_path):
    full = stored(tmp_path, image(np.full(SHAPE, 255, np.uint8), placed(AXES[3])))
    assert read_mask(full, "p").volume.voxels.all()
    with pytest.raises(CaseError, match="empty mask"):
        read_mask(stored(tmp_path, image(np.zeros(SHAPE, np.uint8))), "p")
    half = read_mask(stored(tmp_path, image(numbers() - np.int16(100), placed(AXES[3]))), "p").volume
    assert half.voxels.dtype == bool
    assert half.voxels.sum() == (numbers() > 100).sum()


# --- real scans ------------------------------------------------------------------------------------------------

SCANS = [
    *(f"case_hgg_brats2023/{s}.nii.gz" for s in ("t1n", "t1c", "t2w", "t2f")),
    *(f"case_lgg_sri24/TCGA-DU-7294_{s}_bet_normalized.nii.gz" for s in ("t1", "t1c", "t2", "fla")),
    "t1_raw_adult/t1_crop.nii.gz",
]


@pytest.mark.parametrize("name", SCANS)
def test_a_real_scan_is_read_in_place_and_written_back_as_it_was(shared_data, tmp_path, name):
    source = shared_data / name
    read = read_volume(source, "real")
    assert nib.aff2axcodes(read.volume.affine) == ("R", "A", "S")
    same_world(source, read.volume)
    write_volume(tmp_path / "back.nii", read.volume, read.source)
    same_file(source, tmp_path / "back.nii")


@pytest.mark.parametrize(
    ("name", "scheme", "forms"),
    [
        ("case_hgg_brats2023/segmentation.nii.gz", None, (1, 1)),
        ("case_lgg_sri24/seg_fusion_simple.nii.gz", "brats2020", (0, 1)),
    ],
)
def test_real_labels_are_written_back_voxel_for_voxel(shared_data, tmp_path, name, scheme, forms):
    file = nib.load(shared_data / name)
    assert (int(file.header["sform_code"]), int(file.header["qform_code"])) == forms
    read, _ = read_labels(shared_data / name, "real", scheme)
    write_volume(tmp_path / "back.nii.gz", read.volume, read.source)
    back = nib.load(tmp_path / "back.nii.gz")
    assert nib.aff2axcodes(back.affine) == ("L", "P", "S")
    np.testing.assert_allclose(back.affine, file.affine, atol=1e-5)
    inside = np.asanyarray(file.dataobj).copy()
    inside[inside == 4] = 3
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), inside)


def test_the_real_labels_with_a_4_are_refused_until_their_scheme_is_named(shared_data):
    with pytest.raises(CaseError, match="resection cavity"):
        read_labels(shared_data / "case_lgg_sri24" / "seg_fusion_simple.nii.gz", "real")


def test_the_real_brain_masks_lie_on_their_series(shared_data):
    folder = shared_data / "case_lgg_sri24"
    grid = read_grid(folder / "TCGA-DU-7294_t1_bet_normalized.nii.gz", "real")
    ml = []
    for name in ("TCGA-DU-7294_brainmask.nii.gz", "TCGA-DU-7294_hdbet_mask_brats.nii.gz"):
        brain = read_mask(folder / name, "real")
        assert brain.source.matches(grid)
        stored_sum = int((np.asanyarray(nib.load(folder / name).dataobj) > 0).sum())
        assert int(brain.volume.voxels.sum()) == stored_sum
        ml.append(stored_sum * grid.voxel_ml)
    assert all(1000 < volume < 2200 for volume in ml), "an adult brain, in ml"


def test_every_tcga_series_and_mask_is_read(shared_data):
    for folder in sorted((shared_data / "tcga_lgg").glob("TCGA-*"))[:12]:
        for file in folder.glob("*.nii.gz"):
            if file.name.endswith("_seg.nii.gz"):
                assert read_labels(file, folder.name)[1] == "binary"
            else:
                same_world(file, read_volume(file, folder.name).volume)
