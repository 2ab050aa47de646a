# Keras on the torch backend: Sequential, compile, fit with validation and callbacks, evaluate, predict
#: needs keras
#: env KERAS_BACKEND=torch
#: slow
import keras
import numpy as np
from keras import layers

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(150, 8)).astype("float32")
y = (x[:, 0] + x[:, 1] > 0).astype("int64")
model = keras.Sequential([keras.Input((8,)), layers.Dense(16, activation="relu"), layers.Dense(2, activation="softmax")])
model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
stopper = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
history = model.fit(x[:110], y[:110], batch_size=32, epochs=4, verbose=0, validation_data=(x[110:], y[110:]), callbacks=[stopper])
for name, values in history.history.items():
    print(name, [round(v, 5) for v in values])
loss, accuracy = model.evaluate(x[110:], y[110:], verbose=0)
predictions = model.predict(x[110:], verbose=0)
weights = model.get_weights()
print(f"{loss:.5f} {accuracy:.4f}", predictions.shape)
