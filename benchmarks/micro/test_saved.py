"""The count of kept bytes against counts by hand."""

from __future__ import annotations

import torch
from torch import nn

from micro.saved import saved_bytes_per_image


def test_saved_bytes_of_a_known_network_are_counted_by_hand() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3 * 4 * 4, 10), nn.Linear(10, 5)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.second(torch.relu(self.first(pixel_values.flatten(1))))

    # Kept: the pixels for the first weight's gradient, relu's output for its own and for the second weight's.
    assert saved_bytes_per_image(Two(), 4, 4) == (48 + 10) * 4
    assert saved_bytes_per_image(Two().to("meta"), 4, 4) == (48 + 10) * 4


def test_saved_bytes_are_the_same_where_a_layer_replaces_its_weights_storage() -> None:
    class Replacing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(48, 48) for _ in range(64))

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            hidden = pixel_values.flatten(1)
            for layer in self.layers:
                layer.bias.data = layer.bias.data.clone()  # pyright: ignore  as bitsandbytes' Linear4bit does
                hidden = torch.relu(layer(hidden))  # pyright: ignore
            return hidden

    for _ in range(3):
        assert saved_bytes_per_image(Replacing(), 4, 4) == 65 * 48 * 4
