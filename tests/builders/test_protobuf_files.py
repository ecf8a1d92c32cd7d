"""What a .proto file imports, and which files that makes."""

import pytest
from build_tests.builders._protofiles import imports_of
from build_tests.builders.protobuf import LanguageOptions, ProtobufBuilder

from build_tests.core.builder import ManifestError


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        ('import "a/b.proto";', ["a/b.proto"]),
        ("import 'a.proto';", ["a.proto"]),
        ('import public "a.proto"; import weak "b.proto";import option "c.proto";', ["a.proto", "b.proto", "c.proto"]),
        ('syntax = "proto3"; package a.b; import\n  "a.proto" ;', ["a.proto"]),
        ('// import "a.proto";\n/* import "b.proto"; */ import /* "c" */ "d.proto"; // import "e.proto"', ["d.proto"]),
        ('option x = "import"; option y = "// no"; import "a.proto";', ["a.proto"]),
        (r'option x = "\" import \"b.proto\""; import "a.proto";', ["a.proto"]),
        ('message M { string import = 1; } message import { reserved "a.proto"; }', []),
        ('/* never closed import "a.proto";', []),
        ("", []),
    ],
)
def test_imports(text, imports):
    assert list(imports_of(text)) == imports


def inputs(planned, files, *imports):
    languages = {"python": LanguageOptions(out="gen")}
    return planned(ProtobufBuilder, files, imports=imports, languages=languages)["python"].inputs


def test_imports_are_followed_and_found_where_protoc_finds_them(planned):
    files = {
        "app/a.proto": 'import "b.proto"; import "sub/c.proto"; import "google/protobuf/any.proto";',
        "app/b.proto": "",
        "one/b.proto": "the component's own goes before",
        "one/sub/c.proto": 'import "d.proto";',
        "two/sub/c.proto": "the first folder goes before",
        "two/d.proto": 'import "sub/c.proto";',
        "two/e.proto": "nobody's",
    }
    assert inputs(planned, files, "//one", "//two") == ("app/a.proto", "app/b.proto", "one/sub/c.proto", "two/d.proto")


def test_a_folder_that_another_step_fills_is_taken_whole(planned):
    files = {"app/a.proto": 'import "b.proto"; import "made.proto";', "one/b.proto": ""}
    assert inputs(planned, files, "//one", "//made") == ("app/a.proto", "one/b.proto", "made/**/*.proto")
    files["app/a.proto"] = 'import "b.proto";'
    assert inputs(planned, files, "//one", "//made") == ("app/a.proto", "one/b.proto")


def test_without_further_folders_no_file_is_read(planned, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/a.proto").write_bytes(b"\xff")
    assert inputs(planned, {}) == ("app/a.proto",)
    with pytest.raises(ManifestError, match="not UTF-8"):
        inputs(planned, {}, "//one")
