"""The text surgery on an exported step, and what XLA can compile of it."""
# ruff: noqa: E501  (the compiler's lines are long)

from typing import Any

import numpy as np
import pytest

from efficientnet_east.bifpn import _double
from efficientnet_east.compat import tf
from efficientnet_east.pjrt import stablehlo


def test_tidy() -> None:
    text = """#loc1 = loc("a(b)\\"")
module @a_b.3 attributes {mhlo.input_output_alias = [{alias = {kind = "may_alias", parameter_index = array<i64>, parameter_number = 1 : i64}, output_index = array<i64: 1>}], mhlo.is_dynamic = false} {
  func.func private @while_cond_12_const_0__.3(%arg0: tensor<f32> loc("x.1")) -> tensor<f32> {
    return %arg0 : tensor<f32> loc(#loc)
  } loc(#loc)
  func.func @main(%arg0: tensor<f32> loc("XLA_Args"), %arg1: tensor<9xf32> loc(fused["x", #loc1])) -> (tensor<2x5xi1>, tensor<9xf32>) {
    %c = stablehlo.constant dense<"0x1F02"> : tensor<2x5xi1> loc(#loc1)
    %0 = mhlo.copy %arg1 : tensor<9xf32> loc(unknown)
    %1 = call @while_cond_12_const_0__.3(%arg0) : (tensor<f32>) -> tensor<f32> loc(#loc)
    return %c, %0 : tensor<2x5xi1>, tensor<9xf32> loc(#loc)
  } loc(#loc)
} loc(#loc)
"""
    tidied, replaced = stablehlo.tidy(text)
    assert replaced == {1: 1}
    assert (
        tidied
        == """module @step {
  func.func private @f0(%arg0: tensor<f32>) -> tensor<f32> {
    return %arg0 : tensor<f32>
  }
  func.func @main(%arg0: tensor<f32>, %arg1: tensor<9xf32> {tf.aliasing_output = 1 : i32}) -> (tensor<2x5xi1>, tensor<9xf32>) {
    %c = stablehlo.constant dense<[[true, true, true, true, true], [false, false, false, false, true]]> : tensor<2x5xi1>
    %1 = call @f0(%arg0) : (tensor<f32>) -> tensor<f32>
    return %c, %arg1 : tensor<2x5xi1>, tensor<9xf32>
  }
}
"""
    )


@pytest.mark.parametrize("line", ["mhlo.topk(%a)", "stablehlo.custom_call @f(%a)", "chlo.erf %a"])
def test_tidy_refuses_what_only_tensorflow_knows(line: str) -> None:
    text = (
        f"module @a attributes {{}} {{\n  func.func @main(%arg0: tensor<f32>) {{\n    %0 = {line}\n  }}\n}}\n"
    )
    with pytest.raises(ValueError, match=line.split("(")[0].split(" ")[0]):
        stablehlo.tidy(text)


def test_tidy_needs_a_module_with_main() -> None:
    for text in ("", "module @a attributes {} {\n}\n"):
        with pytest.raises(ValueError, match="holds no"):
            stablehlo.tidy(text)


def test_doubling_compiles_with_its_gradient_and_is_the_nearest_neighbor() -> None:
    """What an exported training step needs: XLA has no gradient of TensorFlow's resizing."""
    net = np.random.default_rng(1).normal(size=(2, 3, 5, 4)).astype(np.float32)
    spec = [tf.TensorSpec(net.shape, tf.float32)]

    def step(images: Any) -> Any:
        doubled = _double(images)
        return doubled, tf.gradients(tf.reduce_sum(doubled**2), images)[0]

    assert tf.executing_eagerly()
    wrapped = tf.wrap_function(step, spec)
    compiled = tf.function(lambda images: wrapped(images), jit_compile=True, input_signature=spec)
    given = tf.constant(net)
    text = compiled.experimental_get_compiler_ir(given)(stage="stablehlo", platform_name="CPU")
    doubled, gradient = (np.asarray(value) for value in compiled(given))
    assert "stablehlo" in text and "custom_call" not in text
    with tf.Graph().as_default(), tf.Session() as session:
        expected = session.run(_double(tf.constant(net)))
    np.testing.assert_array_equal(doubled, expected)
    np.testing.assert_array_equal(expected, net.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(gradient, 8 * net, rtol=1e-6)
