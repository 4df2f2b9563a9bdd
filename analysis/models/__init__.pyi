from .language_model import HeadWeight as HeadWeight
from .language_model import LanguageModel as LanguageModel
from .language_model import NeuronWeight as NeuronWeight
from .language_model import TokenizedText as TokenizedText
from .language_model import from_parts as from_parts
from .language_model import load as load
from .language_model import pick_device as pick_device
