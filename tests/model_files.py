"""Small model files: one model in every format that torch writes, and files put together byte by byte."""

import zipfile
from pathlib import Path


def torch_files(folder: Path) -> Path:
    """Keep one small model in a folder, in every format that torch can write, and give the folder."""
    import torch
    from safetensors.torch import save_file

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()).eval()
    x = (torch.ones(2, 3),)
    state = model.state_dict()
    old = {"_use_new_zipfile_serialization": False}
    torch.save(state, folder / "state.pt")
    torch.save(state, folder / "state_old.pt", **old)
    torch.save(state, folder / "state_old0.pt", pickle_protocol=0, **old)
    torch.save({"state_dict": state, "epoch": 3, "seen": {1, 2}, "at": 1j}, folder / "checkpoint.pt")
    torch.save({"state_dict": state, "args": Path("x")}, folder / "checkpoint_with_path.pt")
    torch.save(model, folder / "module.pt")
    torch.save(model, folder / "module_old.pt", **old)
    torch.save({"model": model}, folder / "module_inside.pt")
    torch.jit.save(torch.jit.trace(model, x), folder / "traced.pt")
    torch.jit.trace(model, x)._save_for_lite_interpreter(str(folder / "lite.ptl"))
    torch.export.save(torch.export.export(model, x), folder / "program.pt2")
    save_file(state, folder / "model.safetensors")
    return folder


def onnx_file(path: Path) -> Path:
    import onnx

    graph = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Relu(x) }'
    )
    onnx.save(graph, path)
    return path


def zip_file(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def holding(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
