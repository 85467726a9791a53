"""A `.pt2` file is looked through before torch opens it, because opening one can run code in five places.

`torch.export.load` unpickles (sample inputs, tensor subclasses, custom objects), evaluates symbolic sizes and guards as
Python, resolves operator names to any function torch can reach, writes node names into generated source, and loads
AOTInductor binaries. What `export` writes needs none of that beyond plain tensors and a known list of operators, so
everything else is refused. The members are read through torch's own archive reader: what was judged is what is loaded.
"""

import io
import json
import pickletools
import re
import zipfile
from typing import IO, Any

import torch

from lite.errors import ArtifactError, UnsafeFileError

MEMBERS = (
    r"data/weights/(weight_\d+|model_weights_config\.json)",
    r"data/constants/(tensor_\d+|model_constants_config\.json)",
    r"data/sample_inputs/model\.pt",
    r"models/model\.json",
    r"extra/hpe_lite_spec\.json",
    r"archive_format|archive_version|byteorder|version|\.data/version|\.data/serialization_id",
)
SAMPLE_MEMBERS = (r"data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+",)
LARGEST_TEXT = 64 * 2**20  # bytes, twenty times that in memory; the largest graph we write is below 30 MB
LARGEST_SAMPLE = 64 * 2**20
MOST_MEMBERS = 10_000  # our largest files have some 700
LONGEST_EXPRESSION = 1000  # characters; ours are a name or a product
PICKLE_GLOBALS = {
    "torch._utils _rebuild_tensor_v2",
    "torch ByteStorage",
    "torch FloatStorage",
    "torch BFloat16Storage",
    "collections OrderedDict",
}
# Opcodes that import, call or look up by other means than GLOBAL + REDUCE, which the allow-list above judges.
PICKLE_REFUSED = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4"}
PLAIN = re.compile(r"[A-Za-z0-9_.+\-]*")
EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d++'(?:, (?:positive|integer|nonnegative)=True)*+\)|[su]\d++|\d++"
    r"|(?:Integer|Add|Mul|Max|Min|FloorDiv|CeilDiv|Mod|PythonMod)\(|(?<!\*)\*(?!\*)|[-+(), ])++"
)
# Comparisons of whole numbers made of the input's sides; no powers and no shifts, whose results could fill the memory.
GUARD = re.compile(
    r"(?:L\['pixels'\]\.size\(\)\[\d\]|(?<!\d)\d{1,12}(?!\d)|(?:min|max)\(|//|(?<![*/])\*(?!\*)"
    r"|(?<![<>=!])(?:<=|>=|==|!=|<|>)(?![<>=])|[-+(), ])++"
)
CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
PYTHON_OPERATORS = re.compile(
    r"_operator\.(?:add|sub|mul|floordiv|mod|neg|pos|ge|le|gt|lt|eq|ne|getitem)|torch\.sym_(?:max|min|not|float|int|sum)"
)
ATEN_OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
# Of aten, the public operators that return tensors or numbers and take no text, which leaves out those that read and
# write files; then these with a harmless text argument, these with a leading underscore, and not those that change what
# memory a tensor looks at, nor the inner halves of others (backward passes, library calls), which trust their callers:
# `max_pool2d_with_indices_backward` writes wherever its indices point.
ATEN_WITH_TEXT = {"gelu", "gelu_", "div", "div_", "meshgrid", "pad", "conv1d", "conv2d", "einsum", "scatter_reduce"}
ATEN_PRIVATE = {"__and__", "__or__", "__xor__", "_assert_scalar", "_assert_tensor_metadata", "_softmax", "_to_copy"}
ATEN_REFUSED = re.compile(
    r"(?:set|sparse_resize|resize)(?:_.*)?|.*storage.*|data|pin_memory|record_stream|from_file|save"
    r"|.*backward.*|(?:fbgemm|mkldnn|cudnn|miopen|quantized)_.*"
)


def vet_archive(file: IO[bytes], name: str) -> None:
    """Refuse a file that is not exactly the kind of archive `export` writes.

    Args:
        file: open for reading; its position is put back to the start.
        name: for messages.

    Raises:
        ArtifactError: damaged, or not a `torch.export` archive.
        UnsafeFileError: it holds something that could run code or fill the memory.
    """
    members = _members(file, name)
    roots = {member.split("/")[0] for member in members}
    inner = {member.partition("/")[2]: size for member, size in members.items()}
    _refuse_native_code(inner, name)
    if len(roots) != 1 or not {"archive_format", "models/model.json", "data/sample_inputs/model.pt"} <= set(inner):
        raise ArtifactError(
            f"{name}: expected a torch.export archive, found a zip file of another kind; export the model again"
        )
    _expect_members(inner, MEMBERS, name)
    reader = _reader(file, name)
    try:
        for member in ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"):
            _vet_payloads(_json(reader, inner, member, name), name)
        _vet_program(_json(reader, inner, "models/model.json", name), name)
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as problem:
        raise ArtifactError(
            f"{name}: its description of the program is damaged ({type(problem).__name__}); export the model again"
        ) from None
    if inner["data/sample_inputs/model.pt"] > LARGEST_SAMPLE:
        raise UnsafeFileError(f"{name}: its sample inputs are {inner['data/sample_inputs/model.pt']} bytes; {_REMEDY}")
    sample = reader.get_record("data/sample_inputs/model.pt")
    if sample:  # `export` leaves it empty
        vet_tensors(sample, f"{name}: data/sample_inputs/model.pt")
    file.seek(0)


_REMEDY = "export the model again, or pass --trust if you know who made the file"


def _members(file: IO[bytes], name: str) -> dict[str, int]:
    """Names and sizes of a zip file whose members are plain, stored and named once."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            file.seek(-22, io.SEEK_END)  # the end record, which nothing may follow
            if file.read(4) != b"PK\x05\x06" or not entries or min(entry.header_offset for entry in entries) != 0:
                raise UnsafeFileError(f"{name}: bytes before or after the archive; {_REMEDY}")
            if len(entries) > MOST_MEMBERS:
                raise UnsafeFileError(f"{name}: {len(entries)} members, more than any file of ours has; {_REMEDY}")
            for entry in entries:
                with archive.open(entry):  # compares the name with the local header
                    pass
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as problem:
        raise ArtifactError(
            f"{name}: expected a complete archive, found a damaged file ({problem}); export the model again"
        ) from None
    finally:
        file.seek(0)
    sizes: dict[str, int] = {}
    for entry in entries:
        path = entry.filename
        parts = path.split("/")
        link = (entry.external_attr >> 16) & 0o170000 not in (0, 0o100000)
        if path.startswith("/") or "\\" in path or ":" in path or "" in parts or ".." in parts or link:
            raise UnsafeFileError(f"{name}: member {path!r} is not a plain file inside the archive; {_REMEDY}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsafeFileError(f"{name}: member {path!r} is compressed, torch stores them plainly; {_REMEDY}")
        if path in sizes:
            raise UnsafeFileError(f"{name}: member {path!r} is there twice; {_REMEDY}")
        sizes[path] = entry.file_size
    return sizes


def _refuse_native_code(inner: dict[str, int], name: str) -> None:
    """AOTInductor and TorchScript archives get a message of their own."""
    if any(member.startswith("data/aotinductor/") or member.endswith((".so", ".cubin", ".dll")) for member in inner):
        raise UnsafeFileError(f"{name}: an AOTInductor package holds native code; {_REMEDY}")
    if any(member == "constants.pkl" or member.startswith("code/") for member in inner):
        raise UnsafeFileError(f"{name}: a TorchScript archive can run code; {_REMEDY}")


def _expect_members(inner: dict[str, int], patterns: tuple[str, ...], name: str) -> None:
    for member in inner:
        if not any(re.fullmatch(pattern, member) for pattern in patterns):
            raise UnsafeFileError(f"{name}: unexpected member {member!r}; {_REMEDY}")


def _reader(file: IO[bytes], name: str) -> Any:
    try:
        return torch._C.PyTorchFileReader(file)
    except RuntimeError as problem:
        first = str(problem).splitlines()[0]
        raise ArtifactError(f"{name}: torch cannot read this archive ({first}); export the model again") from None


def _json(reader: Any, inner: dict[str, int], member: str, name: str) -> Any:
    if inner.get(member, LARGEST_TEXT + 1) > LARGEST_TEXT:
        raise UnsafeFileError(f"{name}: {member} is missing or larger than {LARGEST_TEXT} bytes; {_REMEDY}")
    try:
        return json.loads(reader.get_record(member))
    except (ValueError, RecursionError) as problem:
        raise ArtifactError(f"{name}: {member} is not JSON ({problem}); export the model again") from None


def _vet_payloads(config: Any, name: str) -> None:
    """Weights and constants must be raw bytes; the other kinds are unpickled."""
    for payload in config.get("config", {}).values():
        if payload.get("use_pickle") is not False or not re.fullmatch(
            r"(weight|tensor)_\d+", str(payload.get("path_name"))
        ):
            raise UnsafeFileError(f"{name}: a weight is stored as a pickle instead of plain bytes; {_REMEDY}")


def _vet_program(program: Any, name: str) -> None:
    """Only known operators, plain names, and arithmetic over sizes; nothing that would be evaluated as Python."""
    for guard in program.get("guards_code") or []:
        if len(str(guard)) > LONGEST_EXPRESSION or not GUARD.fullmatch(str(guard)):
            raise UnsafeFileError(f"{name}: guard {str(guard)[:60]!r} is not a comparison of sizes; {_REMEDY}")
    _vet_value({key: value for key, value in program.items() if key != "guards_code"}, name)


def _vet_value(value: Any, name: str, key: str = "") -> None:
    if isinstance(value, dict):
        for inner_key, inner_value in value.items():
            if not PLAIN.fullmatch(inner_key):
                raise UnsafeFileError(f"{name}: name {inner_key[:60]!r} in the graph; {_REMEDY}")
            _vet_value(inner_value, name, inner_key)
    elif isinstance(value, list):
        for item in value:
            _vet_value(item, name, key)
    elif isinstance(value, str):
        if key in ("target", "as_operator") and not _known_operator(value):
            raise UnsafeFileError(
                f"{name}: operator {value[:60]!r} is not one of those this project's graphs use; {_REMEDY}"
            )
        if key in ("in_spec", "out_spec"):
            _vet_treespec(json.loads(value), name)
        elif key == "expr_str" and len(value) > LONGEST_EXPRESSION:
            raise UnsafeFileError(f"{name}: a size expression of {len(value)} characters; {_REMEDY}")
        elif not (EXPRESSION if key == "expr_str" else PLAIN).fullmatch(value):
            raise UnsafeFileError(f"{name}: {key or 'value'} {value[:60]!r} in the graph; {_REMEDY}")


def _known_operator(target: str) -> bool:
    """Whether an operator computes and does nothing else."""
    if PYTHON_OPERATORS.fullmatch(target):
        return True
    match = ATEN_OPERATOR.fullmatch(target)
    if match is None:
        return False
    name, overload = match.groups()
    if name in ATEN_PRIVATE:
        return True
    schema = getattr(getattr(getattr(torch.ops.aten, name, None), overload, None), "_schema", None)
    if schema is None or name.startswith("_") or ATEN_REFUSED.fullmatch(name):
        return False
    takes_text = any("str" in str(argument.type) for argument in schema.arguments)
    returns = [str(result.type) for result in schema.returns]
    plain = all(re.fullmatch(r"(?:List\[)?(?:Tensor|int|float|bool|number|Scalar|SymInt)\]?", kind) for kind in returns)
    return bool(returns) and plain and (name in ATEN_WITH_TEXT or not takes_text)


def _vet_treespec(spec: Any, name: str) -> None:
    """`[1, {"type", "context", "children_spec"}]`: tuples, lists and dicts with plain keys."""
    if isinstance(spec, list):
        for item in spec:
            _vet_treespec(item, name)
    elif isinstance(spec, dict):
        context = json.loads(spec["context"]) if spec.get("context") else None
        plain = context is None or (
            isinstance(context, list) and all(isinstance(k, str) and PLAIN.fullmatch(k) for k in context)
        )
        if spec.get("type") not in CONTAINERS or not plain:
            raise UnsafeFileError(f"{name}: container {str(spec.get('type'))[:60]!r} in the signature; {_REMEDY}")
        _vet_treespec(spec["children_spec"], name)


def vet_tensors(data: bytes, name: str) -> None:
    """Refuse a `torch.save` file that holds anything but tensors in plain containers.

    Raises:
        UnsafeFileError: a pickle that imports something else, or a member that has no business there.
    """
    if not data.startswith(b"PK\x03\x04"):
        raise UnsafeFileError(f"{name}: a bare pickle where a tensor file belongs; {_REMEDY}")
    members = _members(io.BytesIO(data), name)
    inner = {member.partition("/")[2]: size for member, size in members.items()}
    _refuse_native_code(inner, name)
    _expect_members(inner, SAMPLE_MEMBERS, name)
    vet_pickle(_reader(io.BytesIO(data), name).get_record("data.pkl"), name)
    # torch tries this first and unpickles without limits when it fails; so it must not fail.
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as problem:
        raise UnsafeFileError(f"{name}: not loadable as plain tensors ({type(problem).__name__}); {_REMEDY}") from None


def vet_pickle(data: bytes, name: str) -> None:
    """Disassemble a pickle, without running it, and refuse every import that is not on the list."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in PICKLE_REFUSED or (opcode.name == "GLOBAL" and argument not in PICKLE_GLOBALS):
                found = argument if opcode.name == "GLOBAL" else opcode.name
                raise UnsafeFileError(f"{name}: a pickle that asks for {found!r}; {_REMEDY}")
    except (ValueError, UnicodeDecodeError) as problem:
        raise UnsafeFileError(f"{name}: a pickle that cannot be read ({problem}); {_REMEDY}") from None
