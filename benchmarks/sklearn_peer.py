"""scikit-learn: `MLPClassifier` and `MLPRegressor`, many epochs in one call of `fit` or one in each `partial_fit`."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from .contestant import COMPARED_EPOCHS, UnsupportedError, Variants
from .workloads import Array, Weights, Workload, order

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}
ESTIMATORS = {("identity", "squared_error"): MLPRegressor, ("softmax", "cross_entropy"): MLPClassifier}

warnings.simplefilter("ignore", ConvergenceWarning)  # `fit` says so after max_iter epochs, which is what is wanted


class Sklearn:
    """An estimator and its data.

    Its squared error has a factor 1/2, so plain gradient descent takes twice the learning rate for the same steps.
    """

    def __init__(self, workload: Workload, x: Array, y: Array, weights: Weights) -> None:
        self.workload, self.x = workload, x
        self.half = workload.loss == "squared_error"
        self.y = y[:, 0] if self.half and y.shape[1] == 1 else y
        doubled = self.half and workload.optimiser == "sgd"
        self.estimator = ESTIMATORS[workload.output, workload.loss](
            hidden_layer_sizes=workload.sizes[1:-1],
            activation=ACTIVATIONS[workload.activation],
            solver=workload.optimiser,
            alpha=0.0,
            batch_size=workload.batch,
            learning_rate_init=workload.lr * (2 if doubled else 1),
            momentum=0.0,
            max_iter=1,
            tol=0.0,
            n_iter_no_change=10**9,
            random_state=0,
            warm_start=True,
        )
        self.epochs = 0
        self._fit(self.x, self.y, 1)
        for own, given in zip(self.estimator.coefs_, weights, strict=True):
            own[...] = given[0].T
        for own, given in zip(self.estimator.intercepts_, weights, strict=True):
            own[...] = given[1]

    def fit(self, epochs: int) -> list[float]:
        """Epochs in the common order, one call each; the first one begins with a new optimiser."""
        losses = []
        for _ in range(epochs):
            rows = order(self.workload, self.epochs)
            x, y = self.x[rows], self.y[rows]
            if self.epochs == 0:
                self._fit(x, y, 1, shuffle=False)
            else:
                self.estimator.partial_fit(x, y)
            losses.append(self._whole(self.estimator.loss_))
            self.epochs += 1
        return losses

    def _fit(self, x: Array, y: Array, epochs: int, shuffle: bool = True) -> None:
        self.estimator.set_params(max_iter=epochs, shuffle=shuffle)
        self.estimator.fit(x, y)

    def _whole(self, loss: float) -> float:
        return float(loss) * (2 if self.half else 1)

    def predict(self, x: Array) -> Array:
        answer = self.estimator.predict if self.half else self.estimator.predict_proba
        return np.asarray(answer(x))


class InOneCall(Sklearn):
    """Once the results are compared, all epochs in one call, shuffled by the estimator's own generator."""

    def fit(self, epochs: int) -> list[float]:
        if self.epochs < COMPARED_EPOCHS:
            return super().fit(epochs)
        self._fit(self.x, self.y, epochs)
        return [self._whole(loss) for loss in self.estimator.loss_curve_[-epochs:]]


def variants(workload: Workload) -> Variants:
    if workload.activation not in ACTIVATIONS or (workload.output, workload.loss) not in ESTIMATORS:
        raise UnsupportedError(f"scikit-learn has no network with {workload.activation}, {workload.loss}")
    return {"partial_fit": Sklearn} if workload.asked else {"fit": InOneCall, "partial_fit": Sklearn}
