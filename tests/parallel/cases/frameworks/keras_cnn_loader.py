# Keras: a functional model with batch norm, Adam, fed by a torch DataLoader
#: needs keras
#: env KERAS_BACKEND=torch
#: slow
import keras
import numpy as np
import torch
from keras import layers
from torch.utils.data import DataLoader, TensorDataset

keras.utils.set_random_seed(1)
images = torch.randn(54, 8, 8, 1)
labels = torch.randint(0, 3, (54,))
loader = DataLoader(TensorDataset(images, labels), batch_size=12, shuffle=True)
inputs = keras.Input((8, 8, 1))
h = layers.Conv2D(4, 3, activation="relu")(inputs)
h = layers.BatchNormalization()(h)
h = layers.GlobalAveragePooling2D()(h)
model = keras.Model(inputs, layers.Dense(3)(h))
model.compile(
    optimizer=keras.optimizers.Adam(1e-3),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(loader, epochs=2, verbose=0)
print([round(v, 5) for v in history.history["loss"]], [round(v, 4) for v in history.history["accuracy"]])
weights = model.get_weights()
