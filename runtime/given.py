"""From data, parameters and first values to arrays that kernels take."""

import math

import numpy as np

DRAWN_AT_ONCE = 2**16  # numbers, in float64, before they become those of the parameter


def conform(name, value, kind, shape, real, bound=None):
    """The value as a contiguous array of samples, or ValueError with the shape or the value that does not fit."""
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: values of type {array.dtype}; give numbers")
    if array.ndim == 1 and shape == (1,):
        array = array[:, None]
    if kind == "integer" and array.ndim == len(shape) + 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 0 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, ("samples", *shape)))
        raise ValueError(f"{name}: shape {array.shape}; the model takes ({wanted})")
    if kind != "integer":
        return np.ascontiguousarray(array, real)
    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):
        raise ValueError(f"{name}: {array[~np.isfinite(array)].flat[0]} is not an integer")
    if array.dtype.kind == "f" and not np.all(array == np.floor(array)):
        raise ValueError(f"{name}: {array[array != np.floor(array)].flat[0]} is not an integer")
    array = np.ascontiguousarray(array, np.int64)
    if array.size and (array.min() < 0 or (bound is not None and array.max() >= bound)):
        wrong = int(array.min() if array.min() < 0 else array.max())
        raise ValueError(f"{name}: the value {wrong}; integers are 0 to {'...' if bound is None else bound - 1}")
    return array


def draw(distribution, scale, shape, rng, real=np.float64):
    """First values of a parameter: constant, normal, uniform in [-scale, scale), or orthogonal with this gain.

    Orthogonal is a matrix (first index: rows, all others: columns) whose rows, or columns where there are fewer of
    them, are orthonormal; uniform among all of those.
    """
    if distribution == "orthogonal":
        return np.asarray(_orthogonal(shape, rng) * scale, real)
    drawn = np.full(shape, scale, real)
    if distribution == "constant":
        return drawn
    for part in np.array_split(drawn.reshape(-1), -(-drawn.size // DRAWN_AT_ONCE) or 1):
        part[...] = scale * (
            rng.standard_normal(part.size) if distribution == "normal" else rng.uniform(-1.0, 1.0, part.size)
        )
    return drawn


def _orthogonal(shape, rng):
    rows, columns = shape[0], math.prod(shape[1:])
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)  # by BLAS: on one thread, or the bits depend on how many there are
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)  # then q is uniform (Mezzadri 2007, section 5)
    return np.ascontiguousarray(q if rows >= columns else q.T).reshape(shape)


def given_arrays(machine, x, y=None, sample_weight=None):
    """Inputs, targets and weights by the names that the kernels know them by. Several inputs come as a dict."""
    kernels, real = machine.kernels, machine.real
    arrays = {}
    for what, value in (("inputs", x), ("targets", y), ("weights", sample_weight)):
        if value is None:
            continue
        entries = kernels[what]
        values = value if isinstance(value, dict) else dict.fromkeys(entries, value)
        for name, (kind, shape) in entries.items():
            if name not in values:
                raise ValueError(f"{name}: missing; give a dict with {', '.join(entries)}")
            arrays[name] = conform(name, values[name], kind, tuple(shape), real, kernels["bounds"].get(name))
    counts = {name: len(a) for name, a in arrays.items()}
    if not counts and kernels["inputs"]:
        raise ValueError("x: missing; give the inputs")
    for name in kernels["weights"]:
        if name in arrays and arrays[name].size and not arrays[name].min() >= 0:
            raise ValueError(f"{name}: the weight {arrays[name].min()}; a weight is at least 0")
    if len(set(counts.values())) > 1:
        raise ValueError("different numbers of samples: " + ", ".join(f"{k} has {v}" for k, v in counts.items()))
    if 0 in counts.values():
        raise ValueError("x: no samples; give at least one")
    return arrays


def parameter_arrays(machine, parameters):
    """The parameters as contiguous arrays of the kernels' type, checked against their shapes."""
    arrays = {}
    if not hasattr(parameters, "keys"):
        raise ValueError(f"parameters: {type(parameters).__name__}; give a dict of name -> array")
    for name, shape in machine.kernels["parameters"].items():
        if name not in parameters:
            raise ValueError(f"parameter {name} is missing; the model has {', '.join(machine.kernels['parameters'])}")
        value = np.asarray(parameters[name])
        if value.dtype.kind not in "fiub":
            raise ValueError(f"parameter {name}: values of type {value.dtype}; give real numbers")
        if value.shape != tuple(shape):
            raise ValueError(f"parameter {name}: shape {value.shape}; the model takes {tuple(shape)}")
        arrays[name] = np.ascontiguousarray(value, machine.real).reshape(tuple(shape) or (1,))
    return arrays


def shaped(machine, arrays):
    """Arrays of the parameters' own shapes: kernels keep single numbers as arrays of one."""
    return {name: arrays[name].reshape(tuple(shape)) for name, shape in machine.kernels["parameters"].items()}


def initial_parameters(machine, seed=0):
    """First values of all parameters, drawn in their order from one generator."""
    rng = np.random.default_rng(seed)
    kernels = machine.kernels
    drawn = {}
    for name, shape in kernels["parameters"].items():
        distribution, scale = kernels["initial"][name]
        with machine.team.one_thread:
            drawn[name] = draw(distribution, scale, tuple(shape), rng, machine.real)
    return drawn
