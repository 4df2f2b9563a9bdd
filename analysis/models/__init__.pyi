from .blocks import HeadWeight as HeadWeight
from .blocks import NeuronWeight as NeuronWeight
from .language_model import LanguageModel as LanguageModel
from .language_model import TokenizedText as TokenizedText
from .loading import from_parts as from_parts
from .loading import load as load
from .loading import pick_device as pick_device
