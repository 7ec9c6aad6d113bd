"""The networks of the comparisons with PyTorch, as bitloom defines them."""
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


class ResNet20(nn.Module):
    """Option B: shortcuts that change the shape are projections."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class SvhnCnn(nn.Module):
    """Three convolutions and two dense layers, batch norm throughout, the input included; momentum and epsilon of Keras."""

    def __init__(self):
        super().__init__()
        layers, channels = [nn.BatchNorm2d(3, 1e-3, 0.01)], 3
        for filters in (16, 16, 24):
            layers += [nn.Conv2d(channels, filters, 3, bias=False), nn.MaxPool2d(2),
                       nn.BatchNorm2d(filters, 1e-3, 0.01), nn.ReLU(inplace=True)]
            channels = filters
        layers.append(nn.Flatten())
        width = 2 * 2 * channels
        for units in (42, 64):
            layers += [nn.Linear(width, units, bias=False), nn.BatchNorm1d(units, 1e-3, 0.01), nn.ReLU(inplace=True)]
            width = units
        layers.append(nn.Linear(width, 10))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


NETWORKS = {"resnet20": ResNet20, "svhn_cnn": SvhnCnn}
