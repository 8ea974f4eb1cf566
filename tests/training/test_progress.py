from cnn_jax.training.progress import Display


def test_off_a_terminal_lines_go_to_stderr_alone(capsys):
    with Display() as display:
        display.say("compiling [bold] …")
        display.begin(200, 40)
        display.advance(41)
        row = {"step": 50, "epoch": 0.5, "train_loss": 1.5, "train_accuracy": 0.25}
        display.row({**row, "images_per_second": 1234.5}, 200)
        display.row({**row, "validation_loss": 0.5, "validation_accuracy": 0.75}, 200)
    out, err = capsys.readouterr()
    assert out == ""
    first, second, third = err.splitlines()
    assert first == "compiling [bold] …"
    words = " ".join(second.split())
    assert words == "step 50/200 epoch 0.50 loss 1.5000 accuracy 25.00% 1,234 images/s"
    assert third.endswith("validation loss 0.5000  accuracy 75.00%")
    assert "\x1b" not in err


def test_a_long_line_is_not_wrapped(capsys):
    with Display() as display:
        display.say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"
