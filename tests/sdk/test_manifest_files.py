"""What a manifest may ask for of files that settings name."""

import pytest

from byenatos_sdk.manifest import ManifestError, parse_manifest

HEAD = '[plugin]\nid = "acme"\nversion = "1"\nentry = "a:B"\n'


def test_settings_that_name_files_are_among_the_settings(tmp_path):
    asked = '[settings]\nlora = []\n[permissions]\nmodel_files = ["*.toy"]\nfile_settings = '
    manifest = parse_manifest(f'{HEAD}{asked}["lora"]'.encode(), tmp_path / "acme")
    assert manifest.permissions.file_settings == ["lora"]
    with pytest.raises(ManifestError, match=r"permissions\.file_settings: expected keys of \[settings\], found 'loan'"):
        parse_manifest(f'{HEAD}{asked}["loan"]'.encode(), tmp_path / "acme")


def test_settings_name_files_for_a_model_that_is_one(tmp_path):
    with pytest.raises(ManifestError, match=r"permissions\.file_settings: expected model_files beside it"):
        parse_manifest(f'{HEAD}[permissions]\nfile_settings = ["lora"]'.encode(), tmp_path / "acme")
