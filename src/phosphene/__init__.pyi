from .data.recording import Recording as Recording
from .data.recording import Sensors as Sensors
from .data.splits import HeldOut as HeldOut
from .data.splits import Split as Split
from .data.splits import split_concepts as split_concepts
from .data.stimuli import StimulusSet as StimulusSet
from .evaluation.protocol import Protocol as Protocol
from .evaluation.result import Result as Result
from .evaluation.similarity import Embeddings as Embeddings
from .evaluation.similarity import Similarity as Similarity
from .methods.atms import ATMS as ATMS
from .methods.brain_alignment import BrainAligner as BrainAligner
from .methods.bvsa import BVSA as BVSA
from .methods.combine import Combine as Combine
from .methods.neurobridge import NeuroBridge as NeuroBridge
from .methods.nice import NICE as NICE
from .methods.ridge import Ridge as Ridge
from .methods.samga import SAMGA as SAMGA
from .methods.shallow_alignment import ShallowAlignment as ShallowAlignment
from .methods.ssr import SSR as SSR
from .methods.ubp import UBP as UBP
from .stimuli.bank import FeatureBank as FeatureBank
from .training.paired import PairedData as PairedData

__version__: str
