"""What each command's help shows at its end: lines to copy."""

from __future__ import annotations

_EXAMPLES = """
convert reference:full --mlx-path out/full
convert pyannote/speaker-diarization-community-1 --mlx-path full
convert pytorch_model.bin --dtype bfloat16 -q --q-bits 8
convert open:embedding --recipe recipe.toml --mlx-path small
export segmentation --output segmentation.bin
export full --output full-torch
convert open:embedding --mlx-path out/embedding
inspect mlx_model
port my_models:MyNet --output my-net --input 2x1x16000
port my_models:build --args '{"layers": 4}' --output my-net
inspect pyannote/segmentation-3.0 --json
precision segmentation --source pyannote/segmentation-3.0
precision full --source open:diarization --corpus meetings/
models
models --json
parity out/segmentation --source reference:segmentation
parity seg --source pyannote/segmentation-3.0 --audio a.wav
parity seg --source pyannote/segmentation-3.0 --save-golden golden
replay seg --golden golden
gate out/parity/*/result.json
gate meetings-evaluation/evaluation.json --limit der_increase=0.2
report out/parity/segmentation --open
report float32/result.json float16/result.json --output page
report out/parity/*/result.json --github-summary
report meetings-evaluation calls-evaluation --output page
report --index out/parity
report --history runs
gallery
gallery pyannote/segmentation-3.0 --output gallery.md
judge torch.safetensors mlx.safetensors --limit noise_ratio=200
judge torch.npz mlx.npz --truth float64.npz
release out/full --result out/parity --output out/release
release full --result full-parity --dry-run
release seg --result p --output r --upload-repo me/seg --private
release full --result p --output r --fast --evaluation e.json
verify out/release
verify me/segmentation-3.0-mlx
diarize meeting.wav --output meeting.rttm
diarize meeting.wav --model pyannote/speaker-diarization-community-1
diarize talks/ --output out --format rttm,json,srt
diarize call.m4a --num-speakers 2 --output -
evaluate meetings/ --model full
evaluate meetings/ --model full --against fast --output full-fast
evaluate meetings/ --model full --baseline old/evaluation.json
evaluate ami.yml:AMI.SpeakerDiarization.mix.test --against rttms/
score meetings/ --turns meetings-evaluation/full
score test.lst --turns ours/ --turns theirs/
tune meetings/ --output tune.json
tune meetings/ --threshold 0.6:0.8:0.02 --mlx-path tuned
tune database.yml:AMI.SpeakerDiarization.only_words.development
speakers enroll Ana ana.wav
speakers enroll "Ana María" recordings/ana --db voices
speakers list
speakers list --db voices --json
speakers remove Ana --db voices
speakers identify meeting.wav
speakers identify recordings --db voices --json
speakers calibrate --db voices
speakers calibrate recordings
speakers calibrate Ana=a.wav Ana=b.wav Bob=c Bob=d
doctor
doctor --json
doctor --self-test
doctor --self-test out/release
bench --size quick
bench networks --batch 1,8 --runs 5
bench pipeline growth --model full --minutes 10 --growth 60
""".strip().splitlines()


def examples(command: str) -> str:
    """The end of the help of ``convert``, or of ``speakers list``."""
    return shown(*(line for line in _EXAMPLES if f"{line} ".startswith(f"{command} ")))


def shown(*lines: str) -> str:
    heading = "Examples" if len(lines) > 1 else "Example"
    return "\n\n".join([f"[bold]{heading}[/bold]", *(f"samevoice {line}" for line in lines)])
